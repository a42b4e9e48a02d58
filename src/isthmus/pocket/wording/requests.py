"""Requests for media by composition: a way of asking, around a verb or a noun of the medium, around what it shows."""

from __future__ import annotations

from numpy.random import Generator as Random

from isthmus.pocket.dialogues import pick
from isthmus.pocket.wording.grammar import Choices, put
from isthmus.pocket.world import Split
from isthmus.types import Modality

ORDERS = Choices(
    """{} / {} / {} / {} / please {} / {} please / {}, please / can you {}? / [can|could] you please {}? / could you
    {}? / will you {}? / would you {}? / can you {} for me? / {} for me / [hi|hey|hello][,|!] {} /
    [hi|hey|hello][,|!|.] can you {}? / [now|ok,|okay,|so,|and now] {} / I want you to {} / I'd like you to {} / {},
    [thanks|thank you] / {} [now|at once|quickly] / {} for my [son|sister|wall|website|phone|friend] / {}, will you?
    / would it be possible to {}? / you should {} / time to {} / my turn: {} / your [task|job|turn]: {} / I'd be
    [glad|happy|grateful] if you could {} / may I ask you to {}? / help me {} / what I want you to do: {} / first,
    {} / why don't you {}? / how about you {}? / it would help me if you could {} / feel free to {} / you may {} /
    we want you to {} / my [teacher|mother|friend] says you can {} / I bet you can {} / show that you can {} / [go
    on|come on|well|hmm|yes|great|next], {} / I [wish|hope] that you {} / let's {} / it's important that you {} /
    {} in a minute / {} as well as you can""",
    """okay then, {} / would you please {}? / go ahead and {} / I'd love it if you could {} / try to {} / please {}
    for me""",
    """kindly {} / do me a [favor|favour] and {} / I was wondering if you could {} / {} if you can / be so kind as
    to {} / I need you to {} / are you able to {}? / for my homework, {} / my son says: {}""",
)
"""Around an imperative."""

CONTEXTS = Choices(
    """I'm learning to count. / my class needs this: / we are doing numbers at school today. / I am making a
    poster. / it's for a friend. / my little [brother|sister] loves numbers, / here is what I want: / listen, /
    look, / well, / I've got a request. / I have an idea: / let me think. / quick one: / this is for my
    [website|blog|mother|wall]. / [good morning|good evening|hello]. / one more thing: / next: / I was told you
    can do this. / [great|nice|cool]! / sorry to bother you, / my homework is about numbers. / you are so
    [kind|good at this]!""",
    "I'm writing a book. / it's my birthday: / okay, here we go:",
    """we're decorating a room. / it's for an exam, so / I'm bored. / first of all, / my boss asked for it: / if
    you don't mind,""",
)
"""What may stand before a request."""

WISHES = Choices(
    """I want {} / I'd like {} / I would like {} / I need {} / [can|could|may] I have {}? / [can|could] I get {}? /
    [can|may] I see {}? / {} / {} please / {}, please / I'd like to have {}[ please|] / do you have {}? / [how|what]
    about {}? / {} for me / one thing: {} / I want to have {} / it would be nice to have {} / {} is what I want /
    can we have {}? / all I want is {} / just {} / let's have {} / get me {} / fetch me {} / send me {} / bring me
    {} / I'm [after|hoping for|waiting for|in the mood for] {} / would {} be possible? / would you have {}? / my
    [wish|order]: {} / another request: {} / I'd be [happy|glad] with {} / could there be {}? / treat me to {} / {}
    would help me / we need {} / my [daughter|teacher|class] wants {} / {} next / {} now / I was hoping to see {} /
    how do I get {}? / all we need now is {}""",
    "I wish for {} / could we have {}? / {} would be [nice|great] / I would love {}",
    """I could use {} / is it possible to get {}? / I'm looking for {} / any chance of {}? / what I need is {} / we
    want {} for the [wall|class|kids] / next I want {} / time for {}""",
)
"""Around a noun."""

VERBS: dict[Modality, Choices] = {
    Modality.IMAGE: Choices(
        """draw {} / draw {} / draw me {} / paint {} / paint me {} / sketch {} / draw a picture of {} / use your pen to
        draw {} / trace {} / pencil {} / outline {} / depict {} / visualize {} /
        portray {} / ink {} / brush {} onto canvas / color {} in / chalk {} / draw {} by hand / draw {} with
        [a pencil|crayons|chalk|a brush] / paint {} in oil / [make|do] a <adjective> sketch of {}""",
        "doodle {} / put {} on paper",
        "illustrate {} / sketch out {} / scribble {} / do a drawing of {}",
    ),
    Modality.VIDEO: Choices(
        """film {} / film {} / film me {} / animate {} / animate me {} / shoot a video of {} / record a video of {}
        / capture {} on film / record {} with your camera / shoot {} / direct a film of {} / bring {} to the screen
        / take a video of {} / film {} for a while / point your camera at {} / turn {} into a film""",
        "shoot a clip of {} / make a movie with {}",
        "video {} / make an animated version of {} / show {} in motion on video",
    ),
    Modality.AUDIO: Choices(
        """play {} / play me {} / dial {} / press {} / beep {} / let me hear {} / let me hear what {} sounds like /
        tap {} / type {} on the [phone|keypad] / buzz {} / chime {} / make {} audible / let's hear
        {} / give {} a sound / turn {} into sound / play {} out loud / play {} on the phone / play the <adjective> tone
        of {}""",
        "sound {} / let me listen to {}",
        "play back {} / ring {} / punch in {}",
    ),
    Modality.POINTS: Choices(
        """model {} in 3D / sculpt {} / carve {} / build {} in 3D / make {} in 3D / make {} three-dimensional /
        carve me {} / mold {} / mould {} out of clay / cast {} in [bronze|plaster|iron] / forge {} / print {} in 3D
        / 3D-print {} / craft {} in 3D / whittle {} / form {} [from|out of] clay / assemble {} in 3D / give {} depth
        / make {} solid / hew {} / cut {} out of wood / sculpt me {} / model me {} / turn {} into a solid""",
        "shape {} in 3D / construct {} as a solid",
        "render {} as a solid body / chisel {} / build {} as a three-dimensional thing",
    ),
}
"""Imperatives whose verb names the medium."""

NOUNS: dict[Modality, Choices] = {
    Modality.IMAGE: Choices(
        """a picture of {} / an image of {} / a drawing of {} / a painting of {} / a sketch of {} / a drawing or a
        painting of {} / a picture [showing|with] {} / {} as [a picture|an image|a drawing|a painting] / a [photo|
        portrait|cartoon|graphic|watercolor|poster|snapshot|postcard|print|mural|etching|photograph|canvas] of {} /
        a <adjective> [picture|image|drawing|sketch|painting] of {} / a <adjective> [picture|image|drawing] with {}
        / a [pencil|chalk|charcoal] drawing of {}""",
        "a pic of {} / a doodle of {} / a small picture of {}",
        "an illustration of {} / some art showing {} / a nice drawing of {} / {} in a picture",
    ),
    Modality.VIDEO: Choices(
        """a video of {} / a clip of {} / a short video of {} / a video clip of {} / an animation of {} / a film of
        {} / a movie of {} / a video [showing|with] {} / {} as [a video|a clip|an animation|a film] / a video or an
        animation of {} / a [gif|reel|film clip|screen recording|cartoon film] of {} / a <adjective> [video|
        clip|film|animation|movie] of {} / a silent [video|film] of {} / a [shot|take|scene|trailer] of {} / a
        [video|film] that shows {} / {} on film""",
        "a vid of {} / a moving picture of {} / {} on video",
        "some footage of {} / a brief clip of {} / a video in which you see {} / a little animation showing {}",
    ),
    Modality.AUDIO: Choices(
        """the tone of {} / the tone for {} / the sound of {} / the key tone of {} / the phone tone for {} / the
        beep of {} / the audio of {} / {} as [a sound|a tone|audio] / a recording of the tone of {} / a beep or a
        tone for {} / the [signal|ringing|telephone sound] of {} / a <adjective> [tone|beep|sound] for {} / a
        [loud|single] [tone|beep] of {} / the [chime|buzz|ring|jingle] of {} / the sound you hear when I press {}""",
        "the dialling tone of {} / the sound that {} makes / the phone's beep for {}",
        "the touch tone for {} / the noise of {} on the phone / an audio clip of {} / the keypad sound for {}",
    ),
    Modality.POINTS: Choices(
        """a 3D model of {} / a 3d model of {} / a point cloud of {} / a solid model of {} / a sculpture of {} / a
        3D shape of {} / a three-dimensional figure of {} / {} as [a 3D model|a point cloud|a solid|a sculpture] / a
        [figurine|solid figure|3D figure] of {} / a 3D model or a sculpture of {} / {} in 3D / a [bust|carving|3D
        rendering|3D print|3D sculpture] of {} / a <adjective> [3D model|sculpture|solid|point cloud] of {} / a
        [heavy|wooden|bronze|clay] [sculpture|model] of {} / a [mesh|relief|mold|cast|3D print] of {} / {} as a 3D
        print / {} made of clay""",
        "a 3-D object of {} / {} as a 3D object / a figure in 3D of {}",
        "a statue of {} / a 3D version of {} / {} in three dimensions / a 3D cloud of points of {}",
    ),
}
"""Nouns that name the medium."""

SHOW = ("make {}", "create {}", "generate {}", "show me {}", "give me {}", "make me {}", "produce {}", "let me see {}")
PLAY = ("play {}", "make {}", "generate {}", "give me {}", "play me {}", "produce {}", "let me hear {}", "send me {}")
"""Imperatives that need a noun to name the medium."""


def action(random: Random, output: Modality, split: Split) -> str:
    """An imperative for a medium, with ``{}`` for what it shows: "draw {}", "make a picture of {}"."""
    if random.random() < 0.55:
        return VERBS[output].any(random, split)
    return put(pick(random, PLAY if output is Modality.AUDIO else SHOW), NOUNS[output].any(random, split))


def request(random: Random, output: Modality, split: Split) -> str:
    """A request for a medium, with ``{}`` for what it shows."""
    if random.random() < 0.65:
        asked = put(ORDERS.own(random, split), action(random, output, split))
    else:
        asked = put(WISHES.own(random, split), NOUNS[output].any(random, split))
    asked = asked.replace(" for me", "", max(asked.count(" for me") - 1, 0))
    if random.random() > 0.12:
        return asked
    context = CONTEXTS.own(random, split)
    return f"{context} {asked[0].upper() + asked[1:] if context[-1] in '.!' else asked}"
