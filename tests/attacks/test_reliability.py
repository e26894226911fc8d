import torch

from eigencode.attacks.reliability import FLAGS, fewer


def test_images_gained_count_against_those_lost():
    """McNemar's exact test: nine lost and one gained are 11 of 1024, ten and one 12 of 2048."""
    for lost, answer in ((9, False), (10, True)):
        before, after = torch.zeros(50, dtype=torch.bool), torch.zeros(50, dtype=torch.bool)
        before[:lost], after[20] = True, True
        assert fewer(after, before) is answer


def test_names_of_flags():
    assert set(FLAGS) == {
        *("zero_gradients", "non_finite_gradients", "probabilities", "random_outputs", "budget_out_of_reach"),
        *("more_steps_weaker", "more_steps_needed", "not_to_chance", "above_independent"),
        *("weaker_than_fgsm", "weaker_than_noise", "weaker_than_square", "squashed", "not_above_chance"),
    }
