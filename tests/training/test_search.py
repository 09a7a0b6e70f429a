"""The grid: how it is written, that it is searched where it says, and that heads alone come out the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import embedkit
from embedkit.errors import ConfigError, UnknownNameError
from embedkit.evaluation.metrics import unweighted_average_recall
from embedkit.heads import expand_head, resolve_head, resolve_heads
from embedkit.imports import take_word
from embedkit.losses import build_loss
from embedkit.training.cross_validation import FoldResult, count_heads, train_losses
from embedkit.training.data.folds import FoldPlan, plan_folds
from embedkit.training.data.store_source import StoreSource
from embedkit.training.data.task import TaskData, define_task
from embedkit.training.search import (
    Candidate,
    Edge,
    build_grid,
    describe_search,
    find_edges,
    head_settings,
    tell_edges,
)
from embedkit.training.selection import choose
from embedkit.training.stacks.stack import Group, Member, TrainingConfig, train_stack
from tests.training.stores import write_synthetic_store


@pytest.mark.parametrize(
    ("spec", "heads"),
    [
        ("linear", ["linear"]),
        ("mlp:hidden=64", ["mlp:hidden=64"]),
        ("mlp:hidden=64/256", ["mlp:hidden=64", "mlp:hidden=256"]),
        (
            "mlp:hidden=8/16,dropout=0.1/0.3",
            [f"mlp:hidden={hidden},dropout={dropout}" for hidden in (8, 16) for dropout in (0.1, 0.3)],
        ),
        ("mlp:activation=relu/gelu,depth=2", ["mlp:activation=relu,depth=2", "mlp:activation=gelu,depth=2"]),
        ("embedkit.heads.mlp:MlpHead:hidden=4/5", [f"embedkit.heads.mlp:MlpHead:hidden={n}" for n in (4, 5)]),
    ],
)
def test_alternatives_are_written_out(spec: str, heads: list[str]) -> None:
    take_word(spec)
    assert expand_head(spec) == heads


@pytest.mark.parametrize("spec", ["mlp:hidden=64/", "mlp:hidden=64/64", "mlp:hidden=/"])
def test_alternatives_that_say_nothing_are_told(spec: str) -> None:
    with pytest.raises(ConfigError, match="different values between the slashes"):
        expand_head(spec)


def test_unknown_settings_are_still_told() -> None:
    with pytest.raises(UnknownNameError, match="mlp"):
        expand_head("mpl:hidden=1/2")
    with pytest.raises(ConfigError, match="Did you mean 'hidden'"):
        head_settings(resolve_heads("mlp:hiden=1/2"))


def test_the_grid_holds_every_combination_once() -> None:
    grid = build_grid(resolve_heads("mlp:hidden=4/8"), [1e-3, 1e-2], [0.0, 0.1])
    assert len(set(grid)) == len(grid) == 8
    assert build_grid(resolve_heads("linear"), [1e-3, 1e-2]) == (
        Candidate(head=resolve_head("linear"), learning_rate=1e-3),
        Candidate(head=resolve_head("linear"), learning_rate=1e-2),
    )
    assert head_settings(resolve_heads("mlp:hidden=4/8"))["hidden"] == [4, 8]
    assert head_settings(resolve_heads("mlp:hidden=4/8"))["depth"] == 1


def test_the_search_is_described_with_what_was_chosen() -> None:
    grid = build_grid(resolve_heads("mlp:hidden=4/8"), [1e-3, 1e-2])
    found = describe_search(grid, [0, 3, 3], chosen_on="inner folds")
    assert found == {
        "grid": {"learning_rate": [1e-3, 1e-2], "hidden": [4, 8]},
        "chosen": {"learning_rate": {"0.001": 1, "0.01": 2}, "hidden": {"4": 1, "8": 2}},
        "chosen_on": "inner folds",
    }


def test_a_choice_at_an_edge_is_compared_with_its_neighbour() -> None:
    grid = build_grid(resolve_heads("mlp:hidden=1/4/8,dropout=0.1/0.2"), [1e-3, 3e-3, 1e-2], [0.0, 0.1, 1.0])
    scores = [0.01 * place for place in range(len(grid))]
    (first, second, third) = find_edges(grid, scores, len(grid) - 1)
    assert [(one.setting, one.value) for one in (first, second, third)] == [
        ("learning_rate", 1e-2),
        ("weight_decay", 1.0),
        ("hidden", 8),
    ]
    assert [round(one.gain, 6) for one in (first, second, third)] == [0.01, 0.03, 0.18]
    # No decay and a single unit are the end of what there is; two dropouts say nothing.
    assert [one.setting for one in find_edges(grid, scores, 0)] == ["learning_rate"]


@pytest.mark.parametrize(("at_edge", "gain", "told"), [(16, 0.006, True), (15, 0.006, False), (30, 0.004, False)])
def test_an_edge_is_told_where_most_choices_lie_there_and_gain(at_edge: int, gain: float, told: bool) -> None:
    chosen = [(Edge(setting="learning_rate", value=3e-2, gain=gain),)] * at_edge + [()] * (30 - at_edge)
    said = tell_edges(chosen, "linear", "UAR")
    assert bool(said) == told
    if told:
        assert said == [
            "16 of 30 choices lie at the edge of what was searched, learning rate 0.03, and gain 0.6 points of inner "
            "UAR over its neighbour; search beyond it with --lr."
        ]


def test_a_fit_tells_an_edge_and_the_run_keeps_it(tmp_path: Path) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5", noise=0.5)
    said: list[str] = []
    lr = (1e-6, 1e-5, 1e-2)
    (record,) = embedkit.fit(
        store, head=["linear"], lr=lr, epochs=5, seeds=1, runs=tmp_path, folds="speaker", tell=said.append
    )
    (sentence,) = record.metrics["search"]["edges"]
    assert sentence.startswith("4 of 4 choices lie at the edge of what was searched, learning rate 0.01, and gain ")
    assert any(sentence in line for line in said)


def make(tmp_path: Path, *, hold_out: bool) -> tuple[TaskData, FoldPlan, list[FoldResult], tuple[Candidate, ...]]:
    store = write_synthetic_store(tmp_path / "tiny.h5", speakers=4, each=12, noise=4.0)
    data = define_task(StoreSource(store))
    plan = plan_folds("speaker", labels=data.labels, speakers=data.speakers, hold_out=hold_out)
    config = TrainingConfig(head=resolve_head("mlp"), classes=3, epochs=4, batch_size=8)
    grid = build_grid(resolve_heads("mlp:hidden=2/16"), [1e-3, 3e-2], [0.0, 0.3])
    features = StoreSource(store).features(data.rows, "utterance")
    done: list[int] = []
    results = train_losses(
        features,
        data.targets,
        plan,
        config,
        [build_loss("ce")],
        grid=grid,
        seeds=(0, 1),
        threads=1,
        on_stack=lambda groups, _: done.extend(len(group.members) for group in groups),
    )["ce"]
    assert sum(done) == count_heads(plan, len(grid), 2)
    return data, plan, results, grid


@pytest.mark.parametrize("hold_out", [False, True])
def test_what_is_chosen_is_the_best_of_candidates_trained_alone(tmp_path: Path, hold_out: bool) -> None:
    data, _, results, grid = make(tmp_path, hold_out=hold_out)
    store = write_synthetic_store(tmp_path / "again.h5", speakers=4, each=12, noise=4.0)
    features = StoreSource(store).features(data.rows, "utterance")
    result, seed = results[1], 1
    recalls = []
    for candidate in grid:
        member = Member(
            loss=build_loss("ce"),
            seed=seed,
            learning_rate=candidate.learning_rate,
            epochs=4,
            weight_decay=candidate.weight_decay,
        )
        predictions = []
        for train, validate in result.fold.validations:
            group = Group(train=train, validate=validate, seed=seed, members=(member,))
            own = TrainingConfig(head=candidate.head, classes=3, epochs=4, batch_size=8)
            (alone,) = train_stack(features, data.targets, [group], own)
            predictions.append(alone.predictions[0])
        targets = data.targets[np.concatenate([pair[1] for pair in result.fold.validations])]
        recalls.append(unweighted_average_recall(targets, np.concatenate(predictions, axis=-1), 3))
    expected = choose(np.stack(recalls))
    assert result.choices[seed] == expected


@pytest.mark.parametrize("hold_out", [False, True])
def test_the_final_head_has_the_shape_that_was_chosen(tmp_path: Path, hold_out: bool) -> None:
    _, _, results, grid = make(tmp_path, hold_out=hold_out)
    shapes = set()
    for result in results:
        assert result.outputs.shape == (2, len(result.fold.test), 3)
        np.testing.assert_allclose(result.outputs.sum(-1), 1)
        for choice, state in zip(result.choices, result.states, strict=True):
            hidden = grid[choice.candidate].head.options.hidden
            assert state["classifier.weight"].shape == torch.Size((3, hidden))
            shapes.add(hidden)
    assert shapes
