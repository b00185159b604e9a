"""Prompts of English words: each its own, or with a beginning that all share."""

import random

_WORDS = """
able above across after again ago air all almost along also always among and animal answer any apple are area arm art
ask away baby back bad ball bank base bear beat became because bed been before began behind being believe below best
better between big bird bit black blue board boat body book both box boy bread break bridge bright bring brother brown
build burn bus but buy call came can car card care carry case cat catch cause center certain chair chance change check
child city class clean clear climb close cloud coast cold color come common cook cool copy corner cost could count
country course cover cross cry cup cut dance dark day deal dear decide deep desert die doctor dog door double down draw
dream dress drink drive drop dry during each early earth east easy eat edge egg eight else end enemy energy enough enter
even evening ever every example eye face fact fall family far farm fast father feel feet few field fight fill final find
fine fire first fish five floor flow flower fly follow food foot for force forest form four free fresh friend from front
fruit full game garden gave girl give glad glass gold gone good grass great green ground group grow guess had hair half
hand happen happy hard has hat have head hear heart heat heavy held help her here high hill him his hold home hope horse
hot hour house how huge human hundred idea inside iron island job join jump just keep kept key kind king knew know lady
lake land large last late laugh law lay lead learn least leave left leg less let letter level lie life light like line
list listen little live long look lost lot love low machine made main make man many map mark market matter may mean meat
meet men middle might mile milk mind minute miss money month moon more morning most mother mountain mouth move much
music must name near neck need never new next night nine noise north nose note nothing now number object ocean off offer
office often oil old once one only open order other our out over own page paint pair paper parent part party pass past
path pay people person phone picture piece place plan plane plant play please point poor port power press problem pull
push put question quick quiet quite race rain ran reach read ready real reason red remember rest rich ride right ring
rise river road rock roll room root rope rose round rule run safe said sail salt same sand save saw say school science
sea season seat second see seed seem sell send sense sent set seven shape share sharp ship shoe shop short should show
side sign silver simple sing sister sit six size skin sky sleep slow small smell smile snow soft soil some son song soon
sound south space speak special spoke spring stand star start state stay step still stone stood stop store storm story
street strong study such sugar summer sun sure surface table tail take talk tall teach team tell ten test than that
their them then there these they thing think this those though thought three through time tiny today together told too
took tool top touch toward town track trade train travel tree trip true try turn two type under until use usual valley
very view village visit voice wait walk wall want war warm was wash watch water wave way wear weather week weight well
went were west what wheel when where which while white who whole why wide wife wild will win wind window winter wish
with woman wonder wood word work world would write year yellow yes yet you young
""".split()  # noqa: SIM905 - a list would be a line a word


class PromptSource:
    """Makes the prompt of each number; the same seed makes the same prompts, on any machine."""

    def __init__(self, seed: int, words: int, shared: float = 0.0) -> None:
        self._seed = seed
        self._beginning = _draw(f"{seed}", round(words * shared))
        self._own = words - len(self._beginning)

    def text(self, number: int) -> str:
        """Return the prompt of this number."""
        return " ".join(self._beginning + _draw(f"{self._seed} {number}", self._own))


def _draw(seed: str, words: int) -> list[str]:
    return random.Random(seed).choices(_WORDS, k=words)  # noqa: S311 - a prompt is no secret
