import torch

from eigencode.attacks.reliability import fewer


def test_images_gained_count_against_those_lost():
    """McNemar's exact test: nine lost and one gained are 11 of 1024, ten and one 12 of 2048."""
    for lost, answer in ((9, False), (10, True)):
        before, after = torch.zeros(50, dtype=torch.bool), torch.zeros(50, dtype=torch.bool)
        before[:lost], after[20] = True, True
        assert fewer(after, before) is answer
