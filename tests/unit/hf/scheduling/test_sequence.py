from gateway_hf.scheduling.sequence import Sequence


def test_a_new_sequence_has_its_whole_prompt_pending():
    sequence = Sequence([7, 8, 9])
    assert (sequence.prompt_tokens, sequence.pending, sequence.prefilling) == (3, 3, True)


def test_with_one_token_pending_it_decodes_whatever_that_token_is():
    sequence = Sequence([7, 8])
    sequence.computed = 1
    assert not sequence.prefilling
    sequence.computed = 2
    sequence.tokens.append(9)
    assert (sequence.prefilling, sequence.pending) == (False, 1)


def test_what_was_preempted_after_it_drew_prefills_again():
    sequence = Sequence([7])
    sequence.tokens += [8, 9]
    assert (sequence.prefilling, sequence.pending, sequence.prompt_tokens) == (True, 3, 1)


def test_two_sequences_of_the_same_tokens_are_two():
    assert len({Sequence([1]), Sequence([1])}) == 2


def test_a_prompt_is_scored_until_each_token_but_the_first_has_its_score():
    sequence = Sequence([7, 8, 9], ranks=0)
    assert sequence.scoring
    sequence.scores += [(), ()]
    assert not sequence.scoring


def test_there_is_nothing_to_score_in_one_token_or_where_nobody_asks():
    assert not Sequence([7], ranks=2).scoring
    assert not Sequence([7, 8, 9]).scoring
