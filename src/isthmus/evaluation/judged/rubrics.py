"""The package's own words to a judge, written from what the papers say is to be marked.

Published figures were measured with the authors' words: give these by path (docs/public_benchmarks.md says where they
are) wherever figures are to be compared with published ones.
"""

from __future__ import annotations

WISE = """You judge a picture that was made from a prompt. The prompt takes knowledge to understand; the explanation
says what has to be seen.

Prompt: {prompt}
Explanation: {explanation}

Give three marks, each 0, 1 or 2, and be strict: 2 only where nothing is left to wish for.
- Consistency: whether the picture shows what the prompt means, as the explanation says. 0: it misses or contradicts it.
  1: it shows a part of it. 2: it shows all of it.
- Realism: whether things look as they do in the world: bodies, materials, light. 0: clearly wrong. 1: small faults.
  2: as in a photograph.
- Aesthetic Quality: composition, colours, finish. 0: poor. 1: fair. 2: excellent.

Answer with these three lines and nothing else:
Consistency: <mark>
Realism: <mark>
Aesthetic Quality: <mark>"""

EDIT = """You judge how a picture was changed. The first picture is the original, the second the result.

Instruction: {prompt}
Kind of change: {edit_type}

Give three marks, each from 1 (bad) to 5 (excellent):
- Instruction Adherence: whether the result shows the change that was asked for, all of it, and at the right place.
- Editing Quality: whether the change looks natural: no seams, blurs or distortions; light and perspective fit.
- Detail Preservation: whether all that wasn't to be changed is as it was.
The second and the third mark may not be higher than the first.

Answer with one line of reasons, and then with these three lines and nothing else:
Instruction Adherence: <mark>
Editing Quality: <mark>
Detail Preservation: <mark>"""

SEMANTICS = """You judge how a picture was changed. The first picture is the original, the second the result.

Instruction: {prompt}

Give two marks, each from 0 to 10:
1. how well the result shows the change that was asked for: 0 not at all, 10 perfectly;
2. how little else was changed: 0 the result is another picture, 10 nothing was changed but what was asked for.

Answer with this JSON object and nothing else: {"score": [first, second], "reasoning": "a sentence"}"""

QUALITY = """You judge the quality of a picture that a program made.

Give two marks, each from 0 to 10:
1. how natural it looks as a whole, in distances, light and shadows: 0 not at all, 10 perfectly;
2. how free it is of faults, such as distortions, blurs, seams, or bodies with wrong parts: 0 full of them, 10 free.

Answer with this JSON object and nothing else: {"score": [first, second], "reasoning": "a sentence"}"""
