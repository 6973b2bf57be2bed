from lectr_extproc.core.decision import WELL_FORMED_KEY
from lectr_extproc.keys import digest, new_key


def test_a_new_key_is_one_that_lectr_accepts_and_is_new_every_time() -> None:
    keys = {new_key() for _ in range(50)}
    assert len(keys) == 50
    assert all(WELL_FORMED_KEY.fullmatch(key) for key in keys)
    assert min(map(len, keys)) == len("lc_key_") + 43  # 256 bits in base64


def test_a_digest_is_of_the_whole_key_in_lower_case_hex() -> None:
    # printf lc_key_0123456789abcdef | sha256sum
    assert digest("lc_key_0123456789abcdef") == "565f2ff29b6deaa85c3f65a39da1c99cfc5e869d1a8e38727cd9a1217d91bc72"
