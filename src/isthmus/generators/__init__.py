"""H -> media; media and H -> denoising loss; captions -> condition. One file an expert, the contract in base.py."""
