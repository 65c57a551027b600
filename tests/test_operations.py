"""How many operations a forward pass takes at batch 1: on a GPU each is a launch, and small batches wait for those."""

import pytest
import torch
import torch.nn.functional as F
from reelbench import models
from torch.utils._python_dispatch import TorchDispatchMode

# At most: fewer are welcome, more are launches that someone added.
MOST = {
    "dualformer/micro": 69,
    "dualformer/t": 258,
    "mvit/micro": 101,
    "mvit/b_16x4": 348,
    "timesformer/micro": 71,
    "timesformer/b": 260,
    "tps/micro": 81,
    "tps/swin_t": 241,
    "video_swin/micro": 74,
    "video_swin/t": 222,
    "vivit/micro": 58,
    "vivit/b": 168,
}


class Operations(TorchDispatchMode):
    """Counts what works on numbers, not what only views them anew; a fused attention is one."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.aten.scaled_dot_product_attention.default:
            self.names.append(func.__name__)
            return args[0].transpose(1, 2).contiguous().transpose(1, 2)  # as the fused kernels lay it out
        with self:
            parts = func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
        if not func.is_view and func is not torch.ops.aten._unsafe_view.default:
            self.names.append(func.__name__)
        return func(*args, **kwargs)


def _count(name: str) -> Operations:
    clip = models.find(name).clip
    with torch.device("meta"), torch.inference_mode():  # shapes alone: as a GPU would be asked, not a CPU
        model = models.build(name).eval()
        x = torch.empty(1, 3, clip.frames, clip.size, clip.size)
        model(x)  # makes what is kept
        with Operations() as seen:
            model(x)
    return seen


@pytest.mark.parametrize("name", MOST)
def test_no_operations_are_added(name):
    seen = _count(name)
    assert len(seen.names) <= MOST[name], sorted(seen.names)


@pytest.mark.parametrize("name", ["video_swin/micro", "tps/micro", "dualformer/micro"])
def test_windows_are_planned_once(name):
    made = {"arange.default", "argsort.default", "sort.default", "remainder.Scalar", "floor_divide.default"}
    assert not made & set(_count(name).names)


def test_it_counts_one_for_a_fused_attention_and_none_for_a_view():
    with torch.device("meta"), torch.inference_mode(), Operations() as seen:
        x = torch.empty(2, 3, 4, 5)
        F.scaled_dot_product_attention(x, x, x).transpose(1, 2).flatten(2).transpose(1, 2).flatten(1)
    assert seen.names == ["empty.memory_format", "scaled_dot_product_attention.default", "clone.default"]


@pytest.mark.slow  # traces whole models
@pytest.mark.parametrize(
    "name",
    ["video_swin/micro", *(pytest.param(n, marks=pytest.mark.exhaustive) for n in ("tps/micro", "dualformer/micro"))],
)
def test_a_compiled_forward_pass_holds_its_windows_as_constants(name):
    torch.compiler.reset()
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    model = models.build(name).eval()
    clip = models.find(name).clip
    compiled = torch.compile(model, fullgraph=True, backend=keep)
    with torch.no_grad():
        for batch in (2, 3, 5):  # the third by the graph of any batch
            clips = torch.randn(batch, 3, clip.frames, clip.size, clip.size)
            torch.testing.assert_close(compiled(clips), model(clips), rtol=1e-4, atol=1e-5)
    assert len(graphs) == 2
    targets = {str(node.target) for graph in graphs for node in graph.graph.nodes}
    assert not {target for target in targets if "arange" in target or "sort" in target}
