from gateway_hf.sequence import Sequence


def test_a_new_sequence_has_its_whole_prompt_pending():
    sequence = Sequence([7, 8, 9])
    assert (sequence.prompt_tokens, sequence.pending, sequence.prefilling) == (3, 3, True)


def test_a_prompt_of_one_token_is_prefilled_before_it_decodes():
    sequence = Sequence([7])
    assert sequence.prefilling
    sequence.computed = 1
    sequence.tokens.append(8)
    assert (sequence.prefilling, sequence.pending) == (False, 1)


def test_two_sequences_of_the_same_tokens_are_two():
    assert len({Sequence([1]), Sequence([1])}) == 2
