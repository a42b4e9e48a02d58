"""What the model is taught to answer in words although media, colours or digits are spoken of."""

from __future__ import annotations

from collections.abc import Collection

from isthmus.pocket.world import Split

MEANT: dict[str, str] = {
    "a drawing": "A drawing is a picture made with lines, usually with a pencil or a pen.",
    "a picture": "A picture is an image of something, such as a drawing, a painting or a photograph.",
    "an image": "An image is a picture of something, on paper or on a screen.",
    "a painting": "A painting is a picture made with paint.",
    "a sketch": "A sketch is a quick, simple drawing.",
    "a photograph": "A photograph is a picture taken with a camera.",
    "a camera": "A camera is a device that takes pictures.",
    "a video": "A video is a series of pictures that are shown so fast that they seem to move.",
    "a film": "A film is a story told in moving pictures.",
    "an animation": "An animation is a series of drawings that seem to move.",
    "a movie": "A movie is a story told in moving pictures.",
    "a clip": "A clip is a short part of a video.",
    "a frame": "A frame is one of the still pictures that a video is made of.",
    "a sound": "A sound is a vibration that travels through the air and can be heard.",
    "a tone": "A tone is a sound of a steady pitch.",
    "a recording": "A recording is a sound or a video that has been stored to be played again.",
    "music": "Music is sound that is arranged to be pleasant or moving.",
    "a microphone": "A microphone is a device that turns sound into an electric signal.",
    "a loudspeaker": "A loudspeaker is a device that turns an electric signal into sound.",
    "a 3D model": "A 3D model describes the shape of an object in three dimensions.",
    "a point cloud": "A point cloud is a set of points in space that shows the shape of an object.",
    "a sculpture": "A sculpture is a work of art with a solid shape.",
    "a statue": "A statue is a sculpture of a person or an animal.",
    "a pixel": "A pixel is the smallest dot of a digital image.",
    "a digit": "A digit is one of the ten signs from zero to nine that numbers are written with.",
    "a number": "A number is a value that tells how many or how much.",
    "a color": "A color is what the eye sees of the light that a thing gives back, such as red or blue.",
    "a portrait": "A portrait is a picture of a person.",
    "a cartoon": "A cartoon is a simple, often funny drawing or animated film.",
    "a pencil": "A pencil is a tool to write and draw with.",
}
"""What media and their tools are."""

ASKED: dict[str, str] = {
    "who painted the Mona Lisa?": "Leonardo da Vinci painted the Mona Lisa.",
    "who painted The Starry Night?": "Vincent van Gogh painted The Starry Night.",
    "who painted Guernica?": "Pablo Picasso painted Guernica.",
    "who made the sculpture David?": "Michelangelo made the sculpture David.",
    "who made the first films?": "The Lumière brothers showed some of the first films in 1895.",
    "who invented the phonograph?": "Thomas Edison invented the phonograph.",
    "who invented the telephone?": "Alexander Graham Bell is known as the inventor of the telephone.",
    "what do you need to draw?": "You need a pencil and some paper.",
    "what do you need to make a video?": "You need a camera, such as the one in a phone.",
    "how do I learn to draw?": "Draw a little every day, begin with simple shapes, and look closely at what you draw.",
    "how do I take a good picture?": "Find good light, hold the camera still, and think about what is in the frame.",
    "how do I draw a cat?": "Begin with a circle for the head, add two pointed ears, then the body and a tail.",
    "how do you draw a circle?": "Put a compass on paper and turn it once around, or trace a round cup.",
    "how many frames a second does a film have?": "Most films have 24 frames a second.",
    "what colors make green?": "Blue and yellow make green.",
    "what colors make purple?": "Red and blue make purple.",
    "what color is the sky?": "On a clear day the sky is blue.",
    "what color is grass?": "Grass is green.",
    "what color are bananas?": "Ripe bananas are yellow.",
    "what color is blood?": "Blood is red.",
    "name three primary colors": "Red, yellow and blue.",
    "what sound does a dog make?": "A dog barks.",
    "what sound does a cat make?": "A cat meows.",
    "what sound does a cow make?": "A cow moos.",
    "how fast does sound travel?": "In air, sound travels at about 343 meters a second.",
    "what is louder, a whisper or a shout?": "A shout is louder than a whisper.",
    "what is the difference between a picture and a video?": "A picture is still, and a video moves.",
    "what is the difference between a drawing and a painting?": "A drawing has lines, a painting has paint.",
    "is a photo a picture?": "Yes, a photo is a picture taken with a camera.",
    "what is animation used for?": "Animation is used in films, games, advertising and teaching.",
    "what are 3D models used for?": "Games, films, architecture and engineering use 3D models.",
    "what does 3D mean?": "It means three-dimensional: having width, height and depth.",
    "can you see pictures?": "Yes, I can look at a picture of a digit and tell you what it shows.",
    "can you hear?": "Yes, I can listen to the tone of a digit and tell you which one it is.",
    "do you like music?": "I am a computer program, so I don't listen for pleasure, but I can play tones.",
    "how many digits are there?": "There are ten digits, from zero to nine.",
    "what comes after seven?": "Eight comes after seven.",
    "what comes before four?": "Three comes before four.",
    "is seven an odd number?": "Yes, seven is odd.",
    "is four an even number?": "Yes, four is even.",
    "which is larger, three or nine?": "Nine is larger than three.",
    "write a short poem about a drawing": "A line, a curve, a patch of blue,\nand on the page the world is new.",
    "write a sentence about a video": "The video shows a child who runs along the beach.",
    "write a caption for a photo of a beach": "A quiet morning by the sea.",
    "tell me a joke": "Why was six afraid of seven? Because seven ate nine.",
    "tell me about movies": "Movies tell stories in moving pictures, usually with sound and music.",
    "give me a synonym for picture": "Image.",
    "how do you spell picture?": "P-i-c-t-u-r-e.",
    "translate picture into French": "Image.",
    "translate the word drawing into German": "Zeichnung.",
}
"""Questions and tasks that speak of media, colours and digits, and are to be answered in words."""


def of_split(entries: Collection[str], split: Split) -> tuple[str, ...]:
    """The entries of a split: every eighth is validation's, the one after it the test's, and the others training's."""
    kept = {"validation": (6,), "test": (7,)}.get(split, tuple(range(6)))
    return tuple(entry for place, entry in enumerate(entries) if place % 8 in kept)
