"""A training loop that resumes from a snapshot with identical results."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn


def _one_cycle(step: int, n_steps: int, peak: float, warmup_share: float = 0.08) -> float:
    """Return the learning rate at a step: a linear rise, then a cosine decay."""
    rise = max(1, int(n_steps * warmup_share))
    if step < rise:
        return peak * (step + 1) / rise
    return peak * (
        0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * (step - rise) / max(1, n_steps - rise))))
    )


class _Ema:
    """The exponential moving average of a module's weights."""

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.state = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move the averages towards the module's weights, faster in the first steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for key, value in module.state_dict().items():
            if value.is_floating_point():
                self.state[key].lerp_(value, 1 - decay)
            else:
                self.state[key].copy_(value)


def train(
    module: nn.Module,
    loss: Callable[[np.random.Generator, torch.Generator], Tensor],
    *,
    name: str,
    work: Path,
    n_steps: int,
    peak: float,
    seed: int,
    every: int = 100,
    after: Callable[[int, _Ema], None] | None = None,
) -> _Ema:
    """
    Train a module in place with AdamW and a one-cycle rate; return its averaged weights.

    The generators of every batch are seeded with (seed, step), so a resumed run draws the same
    batches as an uninterrupted one.
    """
    snapshot, log = work / f"{name}.snapshot.pt", work / f"{name}.log"
    optimizer = torch.optim.AdamW(module.parameters(), lr=peak, weight_decay=0.01, fused=True)
    ema, first = _Ema(module), 0
    if snapshot.exists():
        saved = torch.load(snapshot, weights_only=True)
        module.load_state_dict(saved["module"])
        optimizer.load_state_dict(saved["optimizer"])
        ema.state, first = saved["ema"], saved["step"]
    started, recent = time.monotonic(), []
    for step in range(first, n_steps):
        for group in optimizer.param_groups:
            group["lr"] = _one_cycle(step, n_steps, peak)
        value = loss(
            np.random.default_rng((seed, step)),
            torch.Generator().manual_seed(seed * 1_000_003 + step),
        )
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        ema.update(module, step)
        recent.append(value.item())
        if (step + 1) % every == 0 or step + 1 == n_steps:
            pace = (time.monotonic() - started) / (step + 1 - first)
            with log.open("a") as lines:
                lines.write(f"{step + 1} loss {np.mean(recent):.5f} {pace:.3f} s/step\n")
            recent.clear()
        if (step + 1) % (5 * every) == 0 or step + 1 == n_steps:
            _save(snapshot, module, optimizer, ema, step + 1)
            if after is not None:
                after(step + 1, ema)
    return ema


def _save(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, ema: _Ema, step: int
) -> None:
    partial = path.with_suffix(".partial")
    state = {
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "ema": ema.state,
        "step": step,
    }
    torch.save(state, partial)
    partial.replace(path)
