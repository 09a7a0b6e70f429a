"""What every head promises: stacks equal single heads, padding and company change nothing, every loss can train it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.errors import ConfigError, UnknownNameError
from embedkit.heads import HEADS, resolve_head
from embedkit.heads.base import Classifier, Head, HeadInputs, HeadShape
from embedkit.heads.stack import load_states, restack, slice_state
from embedkit.losses import LOSSES, build_loss
from tests.cases import mark_cases

pytestmark = pytest.mark.usefixtures("own_parts_typed")

SPECS = [
    "linear",
    "superb:hidden=5",
    "mlp:hidden=6,depth=2,activation=gelu",
    "attentive:hidden=4",
    "lstm:hidden=3,subsampling=3",
    "lstm:hidden=2,depth=2,pooling=attention,input_dropout=0.2,subsampling=3",
    "lstm:hidden=3,bidirectional=false,pooling=last,subsampling=3",
    "lstm:hidden=2,pooling=last,subsampling=3",
    "cnn:channels=2,blocks=2",
]
ROOMY_SPECS = [
    "linear",
    "superb:hidden=5",
    "mlp:hidden=16,dropout=0",
    "attentive:hidden=4,dropout=0",
    "lstm:hidden=8,dropout=0",
    "cnn:channels=4,blocks=1,dropout=0",
]
FRAME_SPECS = [spec for spec in SPECS if spec.split(":")[0] in ("attentive", "lstm", "cnn")]
SHAPE = HeadShape(groups=2, members=3, layers=3, dimensions=8, classes=4)


def make(spec: str, shape: HeadShape = SHAPE, seeds: list[int] | None = None) -> Head:
    resolved = resolve_head(spec)
    cls, options = resolved.cls, resolved.options
    seeds = list(range(shape.groups * shape.members)) if seeds is None else seeds
    return cls(shape, options, [torch.Generator().manual_seed(seed) for seed in seeds]).double()


def make_inputs(head: Head, batch: int = 5, seed: int = 0, longest: int = 7) -> HeadInputs:
    shape, generator = head.shape, torch.Generator().manual_seed(seed)
    if head.level == "utterance":
        size = (shape.groups, batch, shape.layers, shape.dimensions)
        return HeadInputs(values=torch.randn(*size, generator=generator, dtype=torch.float64))
    lengths = torch.randint(1, longest + 1, (shape.groups, batch), generator=generator)
    lengths[:, 0] = longest
    size = (shape.groups, batch, longest, shape.layers, shape.dimensions)
    values = torch.randn(*size, generator=generator, dtype=torch.float64)
    values[torch.arange(longest) >= lengths.unsqueeze(-1)] = 0
    return HeadInputs(values=values, lengths=lengths)


def group_of(inputs: HeadInputs, group: int) -> HeadInputs:
    """Cut one group out, with no more padding than it needs."""
    if inputs.lengths is None:
        return HeadInputs(values=inputs.values[group : group + 1])
    lengths = inputs.lengths[group : group + 1]
    return HeadInputs(values=inputs.values[group : group + 1, :, : int(lengths.max())], lengths=lengths)


def train(head: Head, loss_spec: str, steps: int = 3, first: int = 0, group: int | None = None) -> None:
    loss, optimizer = build_loss(loss_spec), torch.optim.SGD(head.parameters(), lr=0.1)
    whole = head.shape if group is None else replace(head.shape, groups=SHAPE.groups)
    head.train()
    for step in range(first, first + steps):
        full = make_inputs(_like(head, whole), seed=step)
        targets = torch.randint(whole.classes, full.values.shape[:2], generator=torch.Generator().manual_seed(step))
        inputs = full if group is None else group_of(full, group)
        targets = targets if group is None else targets[group : group + 1]
        optimizer.zero_grad()
        loss(head(inputs), targets.unsqueeze(1), progress=step / 8).sum().backward()
        optimizer.step()


class _like:  # noqa: N801
    """Just enough of a head to make inputs for it."""

    def __init__(self, head: Head, shape: HeadShape) -> None:
        self.level, self.shape = head.level, shape


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("classifier", ["affine", "cosine"])
@pytest.mark.parametrize("layers", [1, 3])
def test_scores_have_the_promised_shape_and_range(spec: str, classifier: Classifier, layers: int) -> None:
    head = make(spec, replace(SHAPE, classifier=classifier, layers=layers)).eval()
    scores = head(make_inputs(head))
    assert scores.shape == (2, 3, 5, 4)
    assert scores.std() > 1e-3
    if classifier == "cosine":
        assert scores.abs().max() <= 1
        assert not any("bias" in name for name, _ in head.named_parameters() if name.startswith("classifier"))
    for name, values in head.state_dict().items():
        assert values.shape[:2] == (2, 3), name


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("layers", [1, 3])
def test_a_probe_gives_cosines_between_utterances_beside_logits(spec: str, layers: int) -> None:
    head = make(spec, replace(SHAPE, classifier="probe", layers=layers))
    inputs = make_inputs(head)
    logits = head.eval()(inputs)
    scores = head.train()(inputs)
    assert logits.shape == (2, 3, 5, 4)
    assert scores.shape == (2, 3, 5, 9)
    cosines = scores[..., 4:]
    torch.testing.assert_close(cosines, cosines.mT)
    with_themselves = cosines.diagonal(dim1=-2, dim2=-1)
    assert ((with_themselves - 1).abs() < 1e-9).logical_or(with_themselves == 0).all(), "0: all features were dropped"
    assert (with_themselves > 0).double().mean() > 0.9
    assert cosines.abs().max() < 1 + 1e-9
    assert cosines.std() > 1e-3
    if "mlp" in spec or spec in ("linear", "superb:hidden=5"):
        affine = make(spec, replace(SHAPE, layers=layers)).eval()
        torch.testing.assert_close(logits, affine(inputs))


@pytest.mark.parametrize("spec", SPECS)
def test_what_a_probe_learns_does_not_reach_the_trunk_nor_the_other_way_round(spec: str) -> None:
    head = make(spec, replace(SHAPE, classifier="probe")).train()
    names, parameters = zip(*head.named_parameters(), strict=True)
    scores = head(make_inputs(head))
    for part, of_classifier in ((scores[..., :4], True), (scores[..., 4:], False)):
        gradients = torch.autograd.grad((part**3).sum(), parameters, retain_graph=True, allow_unused=True)
        reached = [name for name, grad in zip(names, gradients, strict=True) if grad is not None and grad.any()]
        assert reached == [name for name in names if name.startswith("classifier.") == of_classifier]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("classifier", ["affine", "cosine", "probe"])
def test_every_parameter_gets_a_gradient(spec: str, classifier: Classifier) -> None:
    head = make(spec, replace(SHAPE, classifier=classifier)).train()
    (head(make_inputs(head)) ** 3).sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        per_head = parameter.grad.flatten(2).abs().sum(-1)
        assert (per_head > 0).all(), name


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("loss", ["ce", "aam:warmup=1", "ccc", "supcon"])
def test_a_stack_trains_every_head_as_if_it_were_alone(spec: str, loss: str) -> None:
    shape = replace(SHAPE, classifier=build_loss(loss).classifier)
    stack = make(spec, shape)
    train(stack, loss)
    for group, member in [(0, 0), (0, 2), (1, 1)]:
        alone = make(spec, replace(shape, groups=1, members=1), seeds=[group * shape.members + member])
        train(alone, loss, group=group)
        found, expected = slice_state(stack, group, member), slice_state(alone, 0, 0)
        for name, values in expected.items():
            torch.testing.assert_close(found[name], values, rtol=1e-9, atol=1e-11, msg=name)


@pytest.mark.parametrize("spec", FRAME_SPECS)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 1000), extra=st.integers(0, 9), single=st.booleans())
def test_scores_change_neither_with_padding_nor_with_the_batch(spec: str, seed: int, extra: int, single: bool) -> None:
    head = make(spec, replace(SHAPE, layers=1 if single else 3)).eval().float()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
    inputs = make_inputs(head, seed=seed)
    assert inputs.lengths is not None
    values = inputs.values.float()
    padded = torch.nn.functional.pad(values, (0, 0, 0, 0, 0, extra))
    together = head(HeadInputs(values=padded, lengths=inputs.lengths))
    for row in range(values.shape[1]):
        for group in range(values.shape[0]):
            length = int(inputs.lengths[group, row])
            own = values[:, row : row + 1, :length]
            alone = head(HeadInputs(values=own, lengths=torch.full((2, 1), length)))
            torch.testing.assert_close(together[group, :, row], alone[group, :, 0], rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec not in FRAME_SPECS])
def test_scores_of_an_utterance_do_not_depend_on_the_batch(spec: str) -> None:
    head = make(spec).eval()
    inputs = make_inputs(head)
    alone = head(HeadInputs(values=inputs.values[:, 2:3]))
    torch.testing.assert_close(head(inputs)[:, :, 2:3], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("loss_spec", "spec"),
    mark_cases(
        product([name for name in LOSSES if "classes" in build_loss(name).tasks], ROOMY_SPECS),
        lambda loss, head: loss in ("ce", "aam", "supcon") or head == "linear",
    ),
)
def test_one_batch_can_be_learned_by_heart(spec: str, loss_spec: str) -> None:
    loss = build_loss(loss_spec)
    ratings = len(getattr(loss, "ratings", ()))
    shape = HeadShape(groups=1, members=2, layers=2, dimensions=8, classes=3 + ratings, classifier=loss.classifier)
    head = make(spec, shape).float()
    inputs = make_inputs(head, batch=6, seed=3, longest=5)
    inputs = replace(inputs, values=inputs.values.float())
    classes = torch.tensor([0, 1, 2, 0, 1, 2]).expand(1, 1, 6)
    targets = torch.stack([classes] * (1 + ratings), -1).float() if ratings else classes
    if loss.soft:
        targets = 0.1 + 0.7 * torch.eye(3)[classes]
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for step in range(60):
        optimizer.zero_grad()
        loss(head(inputs), targets, progress=step / 60).sum().backward()
        optimizer.step()
    found = head.eval()(inputs)[..., :3]
    assert torch.equal(found.argmax(-1), classes.expand(1, 2, 6))


@pytest.mark.parametrize("spec", ["mlp:hidden=50", "attentive", "lstm:hidden=20", "cnn:channels=4,blocks=2"])
def test_dropout_acts_in_training_alone_and_draws_anew_each_time(spec: str) -> None:
    head = make(spec)
    inputs = make_inputs(head)
    assert not torch.equal(head.train()(inputs), head(inputs))
    assert torch.equal(head.eval()(inputs), head(inputs))


@pytest.mark.parametrize("spec", SPECS)
def test_states_go_out_of_a_stack_and_into_another(spec: str) -> None:
    head, other = make(spec).eval(), make(spec, seeds=list(range(10, 16))).eval()
    inputs = make_inputs(head)
    assert not torch.allclose(head(inputs), other(inputs))
    load_states(other, [[slice_state(head, group, member) for member in range(3)] for group in range(2)])
    assert torch.equal(head(inputs), other(inputs))
    single = make(spec, replace(SHAPE, groups=1, members=1)).eval()
    load_states(single, [[slice_state(head, 1, 2)]])
    torch.testing.assert_close(single(group_of(inputs, 1))[0, 0], head(inputs)[1, 2], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("spec", ["linear", "mlp:hidden=6", "lstm:hidden=3,subsampling=3", "cnn:channels=2,blocks=2"])
def test_a_smaller_stack_goes_on_as_the_whole_would_have(spec: str) -> None:
    stack = make(spec)
    train(stack, "ce", steps=2)
    kept = restack(stack, [[(0, 2), (0, 1)], [(1, 0), (1, 1)]])
    states = [generator.get_state() for generator in stack.generators]
    train(kept, "ce", steps=2, first=2)
    for generator, state in zip(stack.generators, states, strict=True):
        generator.set_state(state)
    train(stack, "ce", steps=2, first=2)
    for place, origin in {(0, 0): (0, 2), (0, 1): (0, 1), (1, 0): (1, 0)}.items():
        for name, values in slice_state(stack, *origin).items():
            torch.testing.assert_close(slice_state(kept, *place)[name], values, rtol=1e-9, atol=1e-12)


def test_states_that_do_not_fit_are_refused_in_one_sentence() -> None:
    head = make("linear")
    state = slice_state(head, 0, 0)
    spoiled = {
        "lack 'mix.layer_weights'": {k: v for k, v in state.items() if k != "mix.layer_weights"},
        "hold 'classifier.other'": state | {"classifier.other": torch.zeros(1)},
        "of size [2, 2], expected [4, 8]": state | {"classifier.weight": torch.zeros(2, 2)},
    }
    for words, bad in spoiled.items():
        with pytest.raises(ConfigError) as caught:
            load_states(head, [[state, state, bad], [state, state, state]])
        assert words in str(caught.value)
    with pytest.raises(ConfigError, match="expected 2 groups of 3"):
        load_states(head, [[state]])
    with pytest.raises(ConfigError, match="expected groups of one size"):
        restack(head, [[(0, 0)], []])
    assert torch.equal(slice_state(head, 0, 0)["classifier.weight"], state["classifier.weight"])


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("liner", "Did you mean 'linear'"),
        ("linear:hidden=3", "Unknown option 'hidden' of the head 'linear'"),
        ("superb:hidden=0", "hidden is 0, expected"),
        ("mlp:dropout=1", "dropout is 1.0, expected"),
        ("mlp:depth=0", "depth is 0, expected"),
        ("mlp:activation=selu", "activation is 'selu', expected one of"),
        ("attentive:dropout=nan", "dropout is nan, expected"),
        ("lstm:hidden=many", "hidden is 'many', expected"),
        ("lstm:pooling=max", "pooling is 'max', expected one of"),
        ("cnn:blocks=9", "blocks is 9, expected"),
        ("no.such_module:Head", "Cannot import 'no.such_module:Head'"),
        ("embedkit.registry:Part", "expected a subclass of embedkit.heads.base.Head"),
    ],
)
def test_bad_specs_are_told_in_one_sentence(spec: str, words: str) -> None:
    with pytest.raises((ConfigError, UnknownNameError)) as caught:
        resolve_head(spec)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_registered_head_resolves_under_its_name() -> None:
    for registered in HEADS:
        found = resolve_head(registered)
        assert found.name == registered
        assert issubclass(found.cls, Head)
        assert isinstance(found.options, found.cls.Options)
    found = resolve_head("embedkit.heads.mlp:MlpHead:hidden=7")
    assert found.name == "embedkit.heads.mlp:MlpHead"
    assert found.options.hidden == 7
