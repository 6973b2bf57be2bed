import pytest

from lectr_extproc.catalog.auto_words import WORDS
from lectr_extproc.core.auto import LISTS, Scoring, score
from lectr_extproc.core.conversation import Conversation, Message

SCORING = Scoring(words=WORDS)


def rows(name: str) -> list[list[str]]:
    """Things of a list with their spellings, read apart from the code that uses them."""
    lines = getattr(WORDS, name).replace("\n  ", " ").strip().split("\n")
    return [[spelling.strip() for spelling in line.split(",")] for line in lines]


@pytest.mark.parametrize("name", [*LISTS, "simple", "asking"])
def test_spellings_are_written_as_they_are_looked_for(name: str) -> None:
    for spellings in rows(name):
        for spelling in spellings:
            assert spelling == spelling.lower()
            assert spelling
            assert not set(spelling) & set("-'’.;:\"")
            assert spelling == " ".join(spelling.split())


@pytest.mark.parametrize("name", LISTS)
def test_a_spelling_names_one_thing_of_its_list(name: str) -> None:
    seen = [spelling for spellings in rows(name) for spelling in set(spellings)]
    assert sorted({spelling for spelling in seen if seen.count(spelling) > 1}) == []


@pytest.mark.parametrize("name", LISTS)
def test_every_spelling_is_found_and_names_its_line(name: str) -> None:
    number = LISTS.index(name)
    for row, spellings in enumerate(rows(name)):
        for spelling in spellings:
            assert (number, row) in WORDS.find(f"Well: {spelling.upper() if spelling.isascii() else spelling}!"), (
                spelling
            )


def test_no_word_of_plain_prose_stands_in_the_lists_that_need_no_context() -> None:
    prose = "class test function tree branch string thread server table index stack queue port key consider proof"
    assert not WORDS.find(prose) & {(number, row) for number in (0, 2, 4) for row in range(200)}


SIMPLE = {
    "en": "Translate this:",
    "en, politely": "Hi, could you please summarise the following",
    "en, grammar": "Please fix the grammar.",
    "de": "Bitte übersetze den Text",
    "fr": "Peux-tu résumer ce texte ?",
    "es": "Por favor, traduce esto",
    "pt": "Você pode resumir isto?",
    "it": "Puoi tradurre questo?",
    "zh": "请把这段话翻译成英文",
}


@pytest.mark.parametrize("language", SIMPLE)
def test_simple_tasks_are_known_in_several_languages(language: str) -> None:
    assert WORDS.is_simple(SIMPLE[language])


HARD = {
    "en": "Prove the theorem by contradiction, and analyse the race condition and the deadlock. Compare both.",
    "de": "Beweise, dass kein Deadlock und keine Wettlaufsituation entsteht. Vergleiche und bewerte die Kryptographie.",
    "fr": "Démontrez le théorème, analysez la condition de concurrence, comparez et justifiez le système distribué.",
    "es": "Demuestra el teorema, analiza la condición de carrera, compara y justifica el sistema distribuido.",
    "pt": "Demonstre o teorema, analise a condição de corrida, avalie e justifique o sistema distribuído.",
    "it": "Dimostra il teorema, analizza il sistema distribuito, confronta e giustifica la consistenza eventuale.",
    "zh": "请证明这个分布式共识协议没有死锁，分析并比较权衡。",
}


@pytest.mark.parametrize("language", HARD)
def test_a_hard_request_is_premium_in_several_languages(language: str) -> None:
    found = score(Conversation(messages=(Message("user", HARD[language]),)), SCORING)
    assert found.tier == "premium", found
