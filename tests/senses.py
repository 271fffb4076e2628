"""Words with two senses each, in sentences written for this: what a contextual word encoder should tell apart."""

SENTENCES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "bank": (
        (
            "She opened a savings account at the bank on Monday.",
            "The bank refused to lend them any more money.",
            "He works as a cashier in a small bank.",
            "Interest rates at our bank went up again this year.",
        ),
        (
            "We sat on the grassy bank and watched the river.",
            "The canoe drifted towards the muddy bank of the stream.",
            "Willows grow along the bank where the water is slow.",
            "An otter climbed up the steep bank out of the river.",
        ),
    ),
    "bat": (
        (
            "A bat flew out of the cave at dusk.",
            "The bat hangs upside down and sleeps all day.",
            "We heard a bat squeak as it hunted insects at night.",
            "A small brown bat had made its nest in the attic.",
        ),
        (
            "He swung the bat and hit the ball over the fence.",
            "The batter broke his wooden bat in the third inning.",
            "She bought a new cricket bat for the season.",
            "Hold the bat with both hands and watch the pitcher.",
        ),
    ),
    "spring": (
        (
            "The tulips bloom in early spring.",
            "Every spring the swallows return to our barn.",
            "After a long winter, spring finally arrived in April.",
            "Farmers sow their wheat in the spring.",
        ),
        (
            "The metal spring inside the mattress is broken.",
            "Compress the spring and put it back into the valve.",
            "A coiled spring pushes the lever back into place.",
            "The clock stopped because its spring had snapped.",
        ),
    ),
    "crane": (
        (
            "A crane lifted the steel beams onto the roof.",
            "The operator climbed into the cab of the crane.",
            "They rented a crane to unload containers from the ship.",
            "The crane towered over the construction site.",
        ),
        (
            "A crane waded through the marsh looking for frogs.",
            "The white crane spread its wings and flew south.",
            "We saw a crane feed its chicks in the reeds.",
            "The crane danced before its mate in the wetland.",
        ),
    ),
    "bass": (
        (
            "He plays the bass in a jazz band.",
            "Turn up the bass on the stereo, please.",
            "The bass and the drums set the rhythm of the song.",
            "She tuned the strings of her electric bass before the concert.",
        ),
        (
            "He caught a huge bass in the lake this morning.",
            "Grilled bass with lemon is on the menu tonight.",
            "The bass is a fish that hides among weeds.",
            "Anglers use minnows as bait for bass.",
        ),
    ),
    "match": (
        (
            "Our team lost the match by two goals.",
            "The tennis match lasted five hours.",
            "Fans sang in the stadium before the match began.",
            "The referee stopped the match because of rain.",
        ),
        (
            "He struck a match and lit the candle.",
            "The last match in the box was damp and would not burn.",
            "Light the stove with a match, but mind your fingers.",
            "A match flared in the dark as she lit her pipe.",
        ),
    ),
    "seal": (
        (
            "A seal barked on the rocks by the sea.",
            "The seal dived under the ice to catch fish.",
            "A baby seal lay on the beach beside its mother.",
            "The polar bear waited for a seal at the hole in the ice.",
        ),
        (
            "The king pressed his seal into the hot wax.",
            "The letter bore the official seal of the university.",
            "Do not accept the document if its seal is broken.",
            "The notary stamped the deed with her seal.",
        ),
    ),
    "mouse": (
        (
            "The cat chased a mouse across the kitchen.",
            "A mouse gnawed a hole in the bag of grain.",
            "The owl swallowed the little mouse whole.",
            "There is a mouse in the cellar that eats our cheese.",
        ),
        (
            "Click the left button of the mouse to select the file.",
            "My wireless mouse needs a new battery.",
            "Move the mouse until the cursor is over the icon.",
            "He plugged a keyboard and a mouse into the computer.",
        ),
    ),
    "palm": (
        (
            "She held the coin in the palm of her hand.",
            "He wiped his sweaty palm on his trousers.",
            "The fortune teller read the lines on my palm.",
            "A blister had formed on the palm of his left hand.",
        ),
        (
            "A tall palm gave shade on the beach.",
            "Coconuts fell from the palm in the storm.",
            "The hotel garden has a fountain and an old date palm.",
            "Each palm along the avenue was planted in the desert sand.",
        ),
    ),
    "pitcher": (
        (
            "The pitcher threw a fast ball past the batter.",
            "Their best pitcher hurt his shoulder in the second inning.",
            "The pitcher struck out nine players in the game.",
            "Fans cheered as the pitcher walked to the mound.",
        ),
        (
            "She poured lemonade from a glass pitcher.",
            "Fill the pitcher with cold water and ice.",
            "A pitcher of milk stood on the breakfast table.",
            "He dropped the clay pitcher and spilled the wine.",
        ),
    ),
    "plant": (
        (
            "Water the plant twice a week and keep it in the sun.",
            "This plant has yellow flowers and hairy leaves.",
            "A climbing plant covered the wall of the garden.",
            "The roots of the plant were eaten by worms.",
        ),
        (
            "The car plant employs two thousand workers.",
            "They shut the chemical plant after the explosion.",
            "The new plant will produce steel for export.",
            "Engineers inspected the turbines at the power plant.",
        ),
    ),
    "letter": (
        (
            "She wrote a long letter to her grandmother.",
            "The postman brought a letter from the tax office.",
            "He put a stamp on the letter and mailed it.",
            "I found an old love letter in the drawer.",
        ),
        (
            "The word begins with a capital letter.",
            "Q is a letter that is seldom used.",
            "Change one letter and you get another word.",
            "The last letter of the Greek alphabet is omega.",
        ),
    ),
}
