"""What a fusion is: member logits in, one set of scores out."""

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fer_zoo.errors import ArgumentError, SplitError
from fer_zoo.evidence import FitReport
from fer_zoo.plain import check_plain
from fer_zoo.registry import Registry


class Fusion(nn.Module, ABC):
    """Turns member logits `(M, B, K)` into scores `(B, K)`.

    The softmax of the scores is the fused probability of each class.

    Args:
        num_members: M.
        num_classes: K.

    Example:
        >>> class Median(Fusion):
        ...     def forward(self, member_logits):
        ...         return member_logits.log_softmax(-1).median(0).values
        >>> Median(3, 7)(torch.zeros(3, 2, 7)).shape
        torch.Size([2, 7])
    """

    name: ClassVar[str] = ""

    def __init__(self, num_members: int, num_classes: int) -> None:
        super().__init__()
        if not all(type(n) is int and n > 0 for n in (num_members, num_classes)):
            raise ArgumentError(f"got {num_members!r} members and {num_classes!r} classes")
        self.num_members, self.num_classes = num_members, num_classes

    @abstractmethod
    def forward(self, member_logits: Tensor) -> Tensor:
        """Return scores `(B, K)` for member logits `(M, B, K)`."""

    def options(self) -> dict[str, Any]:
        """Return the keywords that build it again: attributes named as those of its class."""
        keywords = inspect.getfullargspec(type(self)).kwonlyargs
        return {name: getattr(self, name) for name in keywords if hasattr(self, name)}

    def fresh(self, num_classes: int | None = None) -> "Fusion":
        """Return an unfitted fusion of this kind, for as many members, registered or not."""
        classes = self.num_classes if num_classes is None else num_classes
        return _build(type(self), self.num_members, classes, self.options())

    def check(self, member_logits: Tensor) -> None:
        """Raise unless the logits have this fusion's number of members and classes."""
        expected = (self.num_members, self.num_classes)
        if not isinstance(member_logits, Tensor):
            raise ArgumentError(f"logits must be a tensor, got {type(member_logits).__name__}")
        if member_logits.ndim != 3 or (member_logits.shape[0], member_logits.shape[2]) != expected:
            raise ArgumentError(
                f"{self.name} fuses logits (members={expected[0]}, faces, classes={expected[1]}), "
                f"got {tuple(member_logits.shape)}"
            )

    def fit(
        self,
        member_logits: Tensor,
        targets: Tensor,
        *,
        split: str,
        allow_training_split: bool = False,
    ) -> FitReport:
        """Find the parameters with the lowest cross-entropy.

        The loss is convex (each fusion says in what); L-BFGS finds the optimum from averaging.

        Args:
            member_logits: `(M, N, K)`, for faces the members were not trained on.
            targets: `(N,)`, int64.
            split: where these faces come from: `"public"`, `"train"`, or your own word (with "test"
                or "private" in front it is the test split, with "train" the other).
            allow_training_split: fit on `"train"` all the same, e.g. with out-of-fold logits.

        Raises:
            SplitError: `split` is the test split, or the training split without the override.
            ArgumentError: shapes that do not fit, or a fusion that has nothing to fit.
        """
        if not any(p.requires_grad for p in self.parameters()):
            raise ArgumentError(f"{self.name} has no parameters to fit; it works as it is")
        check_fit_split(split, allow_training_split)
        self.check(member_logits)
        check_plain(member_logits, "the member logits", ArgumentError)
        try:
            targets = check_targets(torch.as_tensor(targets), self.num_classes)
        except ArgumentError:
            raise
        except (TypeError, ValueError, RuntimeError):
            raise ArgumentError(f"targets are class indices (N,), got {targets!r:.80}") from None
        if targets.shape != member_logits.shape[1:2] or not len(targets):
            raise ArgumentError(f"{member_logits.shape[1]} faces, targets {tuple(targets.shape)}")
        logits = member_logits.detach().double().cpu().clone()
        if not bool(torch.isfinite(logits).all()):
            raise ArgumentError("the member logits hold NaN or infinity")
        like = torch.empty_like(next(self.parameters()))
        self.cpu().double()
        self.reset_parameters()
        optimizer = torch.optim.LBFGS(
            self.parameters(),
            max_iter=1000,
            history_size=20,
            tolerance_grad=1e-9,
            tolerance_change=1e-14,
            line_search_fn="strong_wolfe",
        )

        def objective() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(self(logits), targets) + self.penalty()
            loss.backward()
            return loss

        try:
            with torch.enable_grad():
                before = float(objective().detach())
                optimizer.step(objective)
                after = float(objective().detach())
            grads = [p.grad for p in self.parameters() if p.grad is not None]
            gradient = max(float(grad.abs().max()) for grad in grads)
        finally:
            optimizer.zero_grad()
            self.to(like)
        return FitReport(
            fusion=self.name,
            split=split,
            n=len(targets),
            loss_before=before,
            loss_after=after,
            gradient_norm=gradient,
        )

    def reset_parameters(self) -> None:
        """Put the parameters where the fusion is plain averaging."""

    def penalty(self) -> Tensor:
        """Return what is added to the mean cross-entropy when fitting."""
        return torch.zeros((), dtype=torch.float64)

    def extra_repr(self) -> str:
        """Say what one wants to know first of a fusion."""
        parts = [f"num_members={self.num_members}", f"num_classes={self.num_classes}"]
        return ", ".join(parts + [f"{k}={v!r}" for k, v in self.options().items()])


FUSIONS: Registry[type[Fusion]] = Registry("fusion", "fer_zoo.list_fusions()")
F_ = TypeVar("F_", bound=type[Fusion])


def register_fusion(name: str) -> Callable[[F_], F_]:
    """Class decorator: make a `Fusion` available by name.

    Example:
        >>> @register_fusion("first_member_doc")
        ... class FirstMember(Fusion):
        ...     def forward(self, member_logits):
        ...         return member_logits[0]
        >>> create_fusion("first_member_doc", 2, 7).name
        'first_member_doc'
    """

    def add(cls: F_) -> F_:
        if not (isinstance(cls, type) and issubclass(cls, Fusion)):
            raise ArgumentError(f"{cls!r} must be a subclass of fer_zoo.fusion.Fusion")
        FUSIONS.register(name, cls)
        cls.name = name
        return cls

    return add


def create_fusion(name: str, num_members: int, num_classes: int, **options: Any) -> Fusion:
    """Return a new, unfitted fusion by name.

    Args:
        name: one of `fer_zoo.list_fusions()`.
        num_members: M.
        num_classes: K.
        **options: of the fusion, e.g. `space="logit"` for `average`.

    Raises:
        UnknownNameError: nothing of that name is registered.
        ArgumentError: the fusion has no such option.

    Example:
        >>> create_fusion("weighted", 2, 7)(torch.zeros(2, 5, 7)).shape
        torch.Size([5, 7])
    """
    return _build(FUSIONS[name], num_members, num_classes, options)


def _build(
    cls: type[Fusion], num_members: int, num_classes: int, options: Mapping[str, Any]
) -> Fusion:
    try:
        return cls(num_members, num_classes, **options)
    except TypeError as error:
        name = cls.name or cls.__name__
        raise ArgumentError(f"fusion {name!r} does not take {dict(options)}: {error}") from None


def check_targets(targets: Tensor, num_classes: int) -> Tensor:
    """Return class indices `(N,)` as int64 on the CPU, or raise `ArgumentError`."""
    check_plain(targets, "the targets", ArgumentError)
    found = targets.detach().cpu().double()
    wrong = found[(found != found.trunc()) | ~((found >= 0) & (found < num_classes))]
    if len(wrong):
        raise ArgumentError(
            f"targets must be whole numbers, 0 to {num_classes - 1}, got {wrong[0]:g}"
        )
    return found.long()


def check_fit_split(split: str, allow_training_split: bool = False) -> None:
    """Raise `SplitError` if fitting on `split` would spoil the numbers."""
    words = re.findall("[a-z]+", split.lower()) if isinstance(split, str) else []
    if not words:
        raise SplitError(f"say which split the faces come from, e.g. 'public', not {split!r}")
    if any(word.startswith(("private", "test")) for word in words):
        raise SplitError(
            f"{split!r} is the test split: it is scored once and fits nothing. "
            "Fit on split='public', or on out-of-fold predictions for Training."
        )
    if any(word.startswith("train") for word in words) and not allow_training_split:
        raise SplitError(
            f"{split!r} is what the model was trained on, and it is far too sure of those faces: "
            "fit on split='public' or faces of your own; of a fusion, allow_training_split=True is "
            "for out-of-fold logits"
        )
