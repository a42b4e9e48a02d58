"""Things that aren't digits, and other work that this model can't do: what it is to decline, by word lists."""

from __future__ import annotations

from isthmus.pocket.wording.grammar import Choices

THINGS = Choices(
    """a cat / a dog / a horse / a house / a tree / a flower / a rose / a car / a boat / a ship / a plane / a train
    / a bicycle / a bird / an owl / a fish / a shark / a cow / a pig / a sheep / a lion / a tiger / an elephant
    / a monkey / a bear / a rabbit / a mouse / a snake / a frog / a butterfly / a bee / a spider / a dragon / a
    unicorn / a robot / a castle / a bridge / a mountain / a river / the sea / the sun / the moon / a star / a
    rainbow / a cloud / the sky / a beach / a forest / a garden / a city / a street / a church / a tower / a
    chair / a table / a lamp / a cup of coffee / a bottle / a cake / a pizza / an apple / a banana / an orange /
    a sandwich / a hat / a shoe / a dress / a watch / a phone / a computer / a guitar / a piano / a ball / a
    football player / a man / a woman / a child / a baby / a king / a queen / a teacher / a doctor / my mother /
    my dog / my house / myself / you / a smiling face / a heart / a circle / a square / a triangle / a map of
    Europe / the Eiffel Tower / the Mona Lisa / Santa Claus / a snowman / a sunset / a spaceship / an alien / a
    wizard / a pirate / a cat and a dog / a cat wearing a hat / a dog on a beach / a red car / a blue bird / a
    green apple / a yellow flower / the letter A / the letter B / a word / my name / the alphabet / a logo / a
    flag / a chart / a comic / a birthday card / a landscape / people dancing / children playing / two cats /
    three birds / seven dwarfs""",
    """a wolf / a fox / a kitchen / a truck / the ocean / a clock / an umbrella / a princess / the letter Q / four
    horses""",
    """a hippopotamus / a giraffe / a penguin / a volcano / a skyscraper / a helicopter / a violin / a pineapple /
    a mermaid / a crocodile / the Statue of Liberty / a lighthouse / a chicken / a cactus / my grandmother /
    Albert Einstein / a birthday cake with candles / an astronaut / a waterfall / a hedgehog / a tractor / a
    kangaroo / a teapot / a purple dragon / a cat sleeping on a sofa / a red rose in a vase / a soldier / a
    windmill / the letter K / five ducks""",
)
"""What one may ask to have drawn, filmed or modelled."""

SCENES = Choices(
    """[a|a|my|the|our|one] [little|red|blue|green|yellow|wooden|<adjective>|<adjective>|<adjective>|]
    [kitten|parrot|goat|camel|crab|whale|turtle|squirrel|donkey|dolphin|barn|palace|cottage|temple|island|lake|farm|
    park|bus|rocket|motorbike|balloon|kite|doll|violin|trumpet|bowl of fruit|candle|mirror|vase|sword|crown|ring|
    necklace|policeman|farmer|nurse|singer|clown|ghost|angel|knight|family|girl|boy|couple|grandfather]
    [in the rain|on a table|under a tree|in space|at night|with a hat|in the snow|by the sea|on a hill||||||]""",
    "[a|the] [panda|camp|palm tree|submarine] [at sunset|]",
    "[a|the|his] [zebra|cello|barber|fountain|wheelchair|jellyfish] [full of people|behind a fence|made of glass|]",
)
"""More of them, by composition."""

PEOPLE = Choices(
    """Elvis Presley / Charlie Chaplin / Queen Elizabeth / Abraham Lincoln / Mickey Mouse / Spider-Man / Batman /
    Marie Curie / Shakespeare / Donald Duck / Taylor Swift / the president / my best friend / my neighbor / my
    teacher / Paris / New York / London Bridge / the Taj Mahal / Mount Everest / Venice / the Great Wall of
    China / planet Earth / Mars""",
    "Gandhi / the Colosseum",
    "Cleopatra / Harry Potter / Big Ben / the Golden Gate Bridge / Beethoven / Tokyo",
)
"""People and places."""

SOUNDS = Choices(
    """a dog barking / a cat meowing / a song / a piano / a guitar / a drum / the rain / thunder / the wind / a
    lullaby / jazz / some music / rock music / a violin / a bird singing / a car engine / applause / laughter /
    a bell / an alarm / the sea / the national anthem / a Beatles song / a symphony / your voice / a lion / a
    train whistle""",
    "a flute / a storm / some Mozart / a cow",
    """a trumpet / Jingle Bells / a baby crying / some techno / waves on a beach / a helicopter / an orchestra / a
    rooster""",
)
"""What one may ask to hear."""

COLOURS = Choices(
    "brown / black / white / gray / grey / orange / purple / pink / silver / turquoise / beige",
    "violet",
    "gold / maroon / olive / golden / dark brown",
)
"""Colours that no digit here has."""

NUMBERS = Choices(
    """ten / eleven / twelve / thirteen / fifteen / twenty / 10 / 11 / 12 / 15 / 20 / 25 / 42 / 99 / 100 / 1000 / a
    hundred / a thousand""",
    "fourteen / 13 / 50",
    "sixteen / seventeen / 14 / 17 / 36 / 77 / 123 / 2024 / a million",
)
"""Numbers that aren't digits."""

WORK: dict[str, Choices] = {
    "sing": Choices(
        "sing [me |]a song / sing happy birthday / sing something / sing [for|to] me",
        "sing along with me",
        "sing me a lullaby / hum a tune",
    ),
    "browse the web": Choices(
        """search the [web|internet] for [cheap flights|a recipe|news] / look [it|this] up [online|on the internet]
        / google the weather / open [google.com|this website|a web page] / what's the weather
        [today|tomorrow|like in Paris]? / what is the latest news? / download [a file|an app|a movie]""",
        "find me a hotel on the web / browse to wikipedia.org",
        "what's the stock price of Apple [today|now]? / check the football results / go online and buy me a ticket",
    ),
    "run code": Choices(
        """run this [code|program|script]: print(1) / execute [my|this] [code|script|program] / run python /
        compile [my|this] program""",
        "start a shell and run ls",
        "run the unit tests / can you execute a command for me?",
    ),
    "send messages": Choices(
        """send an email to [my boss|Anna|my mother] / text my [friend|wife|brother] / call [my mother|the police|a
        taxi] / post this on Twitter""",
        "write to Tom on WhatsApp",
        "phone my dentist / message my sister / reply to that e-mail for me",
    ),
    "see the clock": Choices(
        "what time is it? / what is the time? / what's today's date? / what day is it today?",
        "tell me the time",
        "how late is it now? / which date is today?",
    ),
    "do that": Choices(
        """set an alarm for [seven|8 am] / set a timer / turn off the lights / order a pizza / book a flight / buy
        milk / play a video on YouTube / open the door""",
        "start my car",
        "remind me to call mum / switch on the heating / add eggs to my shopping list",
    ),
}
"""Work of other kinds, by what the model says that it can't do."""

KINDS = Choices(
    """a PDF / a spreadsheet / a slide show / a Word document / a zip file / a QR code / a font / a website / an
    app / a game / a smell / a hologram / an mp3 of a song / a depth map / a thermal image / a mind map""",
    "an Excel table / a PowerPoint",
    "a database / a barcode / a flow chart / a taste / a map / an ebook",
)
"""Kinds of media that it doesn't make."""
