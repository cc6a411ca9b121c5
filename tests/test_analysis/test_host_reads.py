"""Reads of the host that are noted, and what is none."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mmselfsup_graft.analysis import HostReads

VALUE, TWO, MASK = torch.tensor([1.0]), torch.tensor([1, 2]), torch.tensor([True, False])
WAYS: dict[str, Callable[[], Any]] = {
    'item': lambda: VALUE.item(),
    'float': lambda: float(VALUE),
    'bool': lambda: bool(VALUE),
    'if': lambda: 1 if VALUE > 0 else 0,
    'format': lambda: f'{VALUE[0]:.2f}',
    'tolist': lambda: VALUE.tolist(),
    'numpy': lambda: VALUE.numpy(),
    'cpu': lambda: VALUE.cpu(),
    'repr': lambda: repr(VALUE),
    'str': lambda: f'{TWO}',
    'tensor of tensors': lambda: torch.tensor([TWO[0], TWO[1]]),
    'nested': lambda: torch.as_tensor([[TWO[0]], [TWO[1]]]),
    'new tensor': lambda: VALUE.new_tensor([VALUE[0]]),
    'nonzero': lambda: MASK.nonzero(),
    'unique': lambda: TWO.unique(),
    'bincount': lambda: TWO.bincount(),
    'repeat_interleave': lambda: TWO.repeat_interleave(TWO),
    'mask': lambda: torch.ones(2)[MASK],
    'masked_select': lambda: TWO.masked_select(MASK),
    'equal': lambda: torch.equal(VALUE, VALUE),
    'allclose': lambda: torch.allclose(VALUE, VALUE),
    'linalg': lambda: torch.linalg.inv(torch.eye(2)),
}


@pytest.mark.parametrize('way', WAYS)
def test_a_read_is_noted_once_with_its_place(way: str) -> None:
    with HostReads() as reads:
        WAYS[way]()
    assert len(reads.found) == 1, reads.found
    assert __file__ in reads.found[0]


@pytest.mark.parametrize(
    'computed',
    [
        lambda: torch.where(VALUE > 0, VALUE, 2 * VALUE).sum(),
        lambda: TWO.repeat_interleave(2),
        lambda: TWO.repeat_interleave(TWO, output_size=3),
        lambda: torch.tensor([1.0, 2.0]),
        lambda: torch.ones(2)[TWO - 1],
        lambda: torch.stack([TWO[0], TWO[1]]),
        lambda: VALUE.to('cpu', torch.float64),
    ],
)
def test_what_stays_on_the_device_is_no_read(computed: Callable[[], Any]) -> None:
    with HostReads() as reads:
        computed()
    assert reads.found == []


@pytest.mark.parametrize(
    ('copy', 'read'),
    [
        (lambda there: there.to('cpu', copy=True), '_to_copy'),
        (lambda there: torch.ones(2).copy_(there), 'copy_'),
        (lambda there: there.to('cpu', non_blocking=True), None),
    ],
)
def test_copies_from_another_device_are_reads_if_they_wait(copy: Callable[[Any], Any], read: str | None) -> None:
    with HostReads() as reads:
        there = torch.ones(2, device='meta')  # has no values to copy, but the copy is asked for
        with pytest.raises(NotImplementedError):
            copy(there)
    assert [found.split()[0] for found in reads.found] == ([read] if read else [])


@pytest.mark.parametrize('choice', ['fused', 'foreach', 'loop'])
def test_step_counters_of_an_optimizer_are_no_reads(choice: str) -> None:
    options = {'fused': choice == 'fused', 'foreach': choice == 'foreach'}
    weight = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.AdamW([weight], **options)
    for _ in range(2):
        weight.grad = torch.ones(3)
        with HostReads() as reads:
            optimizer.step()
        assert reads.found == []
        assert reads.calls > 0
    with HostReads() as reads:
        optimizer.state[weight]['step'].item()  # anyone else who asks for it
    assert len(reads.found) == 1


def test_calls_are_counted_without_views() -> None:
    weight, data = torch.ones(3), torch.ones(2, 3)
    with HostReads() as reads:
        (data.view(6).view(2, 3).t().detach().t() * weight).sum()
    assert reads.calls == 2
