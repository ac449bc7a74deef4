"""Train the zoo: a plan of stages, in as many calls as it takes, then pack the weights.

    python benchmarks/train_zoo.py --data fer2013.csv --runs runs/zoo --bundle runs/bundle

Each stage of `benchmarks/zoo.toml` trains its networks in RUNS/STAGE/MODEL/seedN. The same call
goes on where the last one ended, also in the middle of a run. How many epochs a stage's minutes
allow is measured before its first run and kept from then on. A finished run is measured on
PublicTest with one view and ten, and leaves its best network, its scores and a line in RUNS/log.md.
Where a later stage learns from it, it also leaves what it says of every training face.

With `--budget`, training stops after so many minutes. `--ship FOLDER` keeps what another machine
needs to go on in at most eight files of 16 MiB there, written anew after every run, and unpacks
what it finds there first. Networks travel in int8, those that would be bundled first; where there
is no room for all, the figures and answers of the others go on without them. On a GPU that is lent
for ten minutes at a time:

    python benchmarks/train_zoo.py --data fer2013.csv --budget 9 --ship OUT

`--bundle FOLDER` packs the products of the plan whose networks are there, with their records, and
says what they win over the bundled ones. `--limit` and `--epochs` make a rehearsal.
"""

import argparse
import json
import logging
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import bundle_weights
import torch
from budget import deadline
from shipment import receive, send
from thesis import go_on_from
from training import faces_per_second
from zoo_log import accuracy, ten_views, training_log
from zoo_plan import Job, Product, Stage, read_plan

import fer_zoo
from fer_zoo._files import replacing
from fer_zoo.data import FER2013, FaceDataset, FERPlus
from fer_zoo.errors import DataError, FerZooError
from fer_zoo.fusion import Average
from fer_zoo.inference import fuse, member_scores
from fer_zoo.training import read_history
from fer_zoo.training.distributed import joined
from fer_zoo.training.objective import read_teacher, write_answers
from fer_zoo.weights.checkpoint import write_checkpoint
from fer_zoo.weights.storage import storage_dtype

PLAN = Path(__file__).parent / "zoo.toml"
TEN_VIEWS = {"fer40_center": "fer40_tencrop"}
log = logging.getLogger("train_zoo")


class Zoo:
    """The runs of a plan, below one folder."""

    def __init__(
        self, stages: list[Stage], products: list[Product], options: argparse.Namespace
    ) -> None:
        self.stages, self.products = {stage.name: stage for stage in stages}, products
        self.runs: Path = options.runs
        self.options = options
        self.begun = time.monotonic()
        self.faces, self.seconds = cache(self._faces), cache(self._seconds)

    def _faces(self, data: str, split: str) -> FaceDataset:
        limit = self.options.limit and (
            self.options.limit if split == "train" else max(self.options.limit // 4, 210)
        )
        found = (FERPlus if data == "ferplus" else FER2013)(self.options.data, split)
        return found.subset(limit) if limit else found

    def jobs(self, name: str) -> list[Job]:
        """Return the runs of a stage, seed by seed."""
        stage, folder = self.stages[name], self.runs / name
        return [
            Job(stage, model, seed, folder / model / f"seed{seed}")
            for seed in stage.seeds
            for model in stage.models
        ]

    def epochs(self, stage: Stage) -> int:
        """Return how many epochs each run of a stage gets, decided once; 0 if too few would fit."""
        stored = self.runs / stage.name / "epochs.json"
        if stored.is_file():
            return int(json.loads(stored.read_text())["epochs"])
        if stage.teacher and not self.teachers(stage):
            log.warning("%s is left out: no run of %s is finished", stage.name, stage.teacher)
            return 0
        wanted, least = stage.settings().epochs, stage.least
        if self.options.epochs:
            fits = wanted = least = self.options.epochs
        else:
            seconds = sum(self.seconds(stage.name, job.model) for job in self.jobs(stage.name))
            minutes = self.options.minutes or stage.minutes
            fits = int(60 * minutes / seconds)
            log.info(
                "%s: %.1f s for an epoch of all its runs, so %d of %d epochs fit in %g minutes",
                stage.name, seconds, fits, wanted, minutes,
            )  # fmt: skip
            if fits < least:
                needed = least * seconds / 60
                log.warning(
                    "%s is left out: %d epochs, its least, take %.0f minutes here "
                    "(--stages %s --minutes %.0f trains it)",
                    stage.name, least, needed, stage.name, 1.1 * needed + 1,
                )  # fmt: skip
                return 0
        write_json(stored, {"epochs": min(fits, wanted)})
        return min(fits, wanted)

    def _seconds(self, name: str, model: str) -> float:
        """Return how long an epoch of one run of a stage takes on this device."""
        stage = self.stages[name]
        rate = faces_per_second(model, stage.settings(), self.options.device)
        return len(self.faces(stage.data, "train")) / rate

    def worth_starting(self, job: Job, epochs: int) -> bool:
        """Whether a run ends within what is left of the budget.

        A run that is cut short goes on only where its state is. That of a large network fits no
        shipment, so with `--ship` a run that will not end in this call is not begun in it, unless
        the whole of the call is too short for it.
        """
        if not (self.options.budget and self.options.ship) or job.folder.exists():
            return True
        needed = epochs * self.seconds(job.stage.name, job.model) / 60
        left = self.options.budget - (time.monotonic() - self.begun) / 60
        if needed < left or needed > self.options.budget:
            return True
        log.warning("%s needs %.1f minutes, %.1f are left: call again", job.folder, needed, left)
        return False

    def train(self, job: Job, epochs: int) -> None:
        """Train one run to its end, or go on with it."""
        stage = job.stage
        if stage.continues:
            earlier = self.runs / stage.continues / job.model / f"seed{job.seed}"
            go_on_from(earlier, job.folder)
        fer_zoo.train(
            job.model,
            self.faces(stage.data, "train"),
            validation=self.faces(stage.data, "public"),
            output=job.folder,
            recipe=stage.settings(job.seed).updated({"epochs": epochs}),
            teacher=self.teacher(stage),
            device=self.options.device,
        )

    def teachers(self, stage: Stage) -> list[Job]:
        """Return the finished runs that a stage learns from."""
        return [job for name in stage.teacher for job in self.jobs(name) if job.result]

    def mute_teachers(self, stage: Stage) -> list[Job]:
        """Return the teachers that can no longer be asked: neither answers nor network are here."""
        if (self.runs / stage.name / "teacher.safetensors").is_file():
            return []
        jobs = [job for job in self.teachers(stage) if not job.network.is_file()]
        return [job for job in jobs if not (job.folder / "answers.safetensors").is_file()]

    def teacher(self, stage: Stage) -> Path | None:
        """Return the file of what the teachers of a stage, averaged, say of each training face."""
        if not stage.teacher:
            return None
        path = self.runs / stage.name / "teacher.safetensors"
        if not path.is_file():
            jobs, data = self.teachers(stage), self.faces(stage.data, "train")
            log.info("%s learns from %s", stage.name, ", ".join(str(job.folder) for job in jobs))
            said = [read_teacher(self.answers(job), data) for job in jobs]
            labels = said[0][1]
            average = Average(len(jobs), len(labels))
            write_answers(path, average(torch.stack([s for s, _ in said])), data, labels)
        return path

    def answers(self, job: Job) -> Path:
        """Return the file of what a finished run says of each training face."""
        path = job.folder / "answers.safetensors"
        if not path.is_file():
            model = fer_zoo.load(job.network, device=self.options.device)
            data = self.faces(job.stage.data, "train")
            scores = member_scores(model, data.images, progress=True)
            write_answers(path, fuse(model, scores), data, model.labels)
        return path

    def measure(self, job: Job) -> None:
        """Score a finished run on PublicTest and write down what it came to."""
        model = fer_zoo.load(job.network, device=self.options.device)
        public = self.faces(job.stage.data, "public")
        presets = [p for p in (model.preset, TEN_VIEWS.get(model.preset)) if p]
        scores = {p: member_scores(model, public.images, preset=p, progress=True) for p in presets}
        config = {"labels": model.labels, "scores_for": public.fingerprint}
        write_checkpoint(job.folder / "scores.safetensors", scores, config)
        if any(job.stage.name in stage.teacher for stage in self.stages.values()):
            self.answers(job)
        run = model.provenance
        seconds = sum(epoch.seconds for epoch in read_history(job.folder / "history.csv"))
        found: dict[str, Any] = {"stage": job.stage.name, "model": job.model, "seed": job.seed}
        found |= {"epochs": run["recipe"]["epochs"], "best_epoch": run["epoch"], "n": len(public)}
        found |= {"minutes": round(seconds / 60, 1), "device": device_name(self.options.device)}
        found["accuracy"] = {p: accuracy(s[0], public, model.labels) for p, s in scores.items()}
        write_json(job.folder / "result.json", found)

    def run(self, names: list[str]) -> None:
        """Train and measure what is missing of some stages."""
        for stage in map(self.stages.get, names):
            missing = [job for job in self.jobs(stage.name) if not job.result]
            if missing and (mute := self.mute_teachers(stage)):
                self.tell_absent(f"{stage.name} is left out: it learns from runs that", mute)
                continue
            try:
                epochs = self.epochs(stage) if missing else 0
            except DataError as error:
                log.warning("%s is left out: %s", stage.name, error)
                continue
            for job in missing if epochs else []:
                if not self.worth_starting(job, epochs):
                    return
                log.info("%s", job.folder)
                self.train(job, epochs)
                self.measure(job)
                self.keep()

    def keep(self) -> None:
        """Write the log and, where it is asked for, the shipment."""
        with replacing(self.runs / "log.md") as temporary:
            temporary.write_text(training_log(self))
        if self.options.ship:
            with tempfile.TemporaryDirectory() as folder:
                groups = self._to_ship(Path(folder))
                left = send(groups, self.options.ship, name=f"zoo-{time.time_ns()}")
            if left:
                log.warning(
                    "no room in %s for %s: they stay in %s, and elsewhere only an earlier shipment "
                    "may have them",
                    self.options.ship, ", ".join(left), self.runs,
                )  # fmt: skip

    def _to_ship(self, folder: Path) -> Iterator[dict[str, Path]]:
        """Yield what another machine needs: figures and answers, networks, and states of runs."""

        def group(where: Path, *names: str) -> dict[str, Path]:
            paths = [where / name for name in names]
            return {p.relative_to(self.runs).as_posix(): p for p in paths if p.is_file()}

        yield group(self.runs, "log.md")
        for name in self.stages:
            yield group(self.runs / name, "epochs.json", "teacher.safetensors")
        jobs = [job for name in self.stages for job in self.jobs(name)]
        done = [job for job in jobs if job.result]
        for job in done:
            yield group(
                job.folder,
                "result.json", "history.csv", "scores.safetensors", "answers.safetensors",
            )  # fmt: skip
        # Those that would be bundled now go first, then the newest.
        picked = [job for product in self.products for job in self.best(product)[0].values()]
        networks = [job for job in reversed(done) if job.network.is_file()]
        for i, job in enumerate(sorted(networks, key=lambda job: job not in picked)):
            path = folder / f"{i}.safetensors"
            fer_zoo.save(fer_zoo.load(job.network), path, dtype="int8")
            yield {job.network.relative_to(self.runs).as_posix(): path}
        for job in jobs:
            state = group(job.folder, "best.safetensors", "last.safetensors", "history.csv")
            if not job.result and len(state) == 3:
                yield state

    def best(self, product: Product) -> tuple[dict[str, Job], dict[str, int]]:
        """Return the best run of each member whose network is there, and how many were finished."""
        best: dict[str, Job] = {}
        runs = {name: 0 for name in fer_zoo.models.get_spec(product.model).members}
        for job in (job for name in product.stages for job in self.jobs(name) if job.result):
            runs[job.model] += 1
            last = best.get(job.model)
            if job.network.is_file() and (last is None or ten_views(job) > ten_views(last)):
                best[job.model] = job
        return best, runs

    def tell_absent(self, why: str, jobs: list[Job]) -> None:
        """Say which finished runs came without their network, and where it may be."""
        log.warning(
            "%s came here without their networks, %s: --ship with an earlier shipment that has "
            "them adds them",
            why, ", ".join(str(job.network) for job in jobs),
        )  # fmt: skip

    def bundle(self, product: Product, folder: Path) -> None:
        """Pack the best runs of a product's members, or say why not."""
        best, runs = self.best(product)
        finished = [job for name in product.stages for job in self.jobs(name) if job.result]
        if absent := [job for job in finished if not job.network.is_file()]:
            self.tell_absent(f"{product.model}.{product.tag} is picked without runs that", absent)
        if set(runs) - set(best):
            log.warning("%s: no network of %s yet", product.model, sorted(set(runs) - set(best)))
            return
        bundle_weights.pack(
            product.model,
            {name: best[name].network for name in runs},
            self.faces(best[next(iter(best))].stage.data, "public"),
            folder,
            tag=product.tag,
            dtype=storage_dtype(product.dtype),
            chosen={m: f"; best of {n} runs, ten views" for m, n in runs.items() if n > 1},
        )


def write_json(path: Path, value: Any) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n")


def device_name(device: str | None) -> str:
    """Return what the runs are trained on, in words."""
    with joined(device) as (_, place):
        if place.type == "cuda":
            return torch.cuda.get_device_name(place)
        return f"{place.type}, {torch.get_num_threads()} threads"


def main() -> None:
    """Train within the budget, then pack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", required=True, help="fer2013.csv or its folder; FER+'s votes beside it"
    )
    parser.add_argument("--plan", type=Path, default=PLAN)
    parser.add_argument("--runs", type=Path, default=Path("runs/zoo"))
    parser.add_argument("--stages", nargs="+", help="only these of the plan")
    parser.add_argument("--budget", type=float, help="minutes of training in this call; 0 for none")
    parser.add_argument("--minutes", type=float, help="for each stage, instead of the plan's")
    parser.add_argument("--ship", type=Path, help="folder that carries the results elsewhere")
    parser.add_argument("--bundle", type=Path, help="folder for the packed weights")
    parser.add_argument("--limit", type=int, help="training faces, to try it out")
    parser.add_argument("--epochs", type=int, help="of every run, to try it out")
    parser.add_argument("--device")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    stages, products = read_plan(options.plan)
    known = [stage.name for stage in stages]
    if unknown := set(options.stages or ()) - set(known):
        parser.error(f"no stage {sorted(unknown)}; the plan has {known}")
    if options.ship:
        found = receive(options.ship, options.runs)
        log.info("unpacked %d files from %s", len(found), options.ship)
    zoo = Zoo(stages, products, options)
    with deadline(options.budget) as limit:
        try:
            if options.budget != 0:
                zoo.run([name for name in known if name in (options.stages or known)])
        except KeyboardInterrupt:
            if not limit.passed:
                zoo.keep()
                raise
            log.warning("the budget of %g minutes is spent; the same call goes on", options.budget)
    zoo.keep()
    print(training_log(zoo))
    for product in products if options.bundle else []:
        zoo.bundle(product, options.bundle)


if __name__ == "__main__":
    try:
        main()
    except (FerZooError, tarfile.TarError) as error:
        sys.exit(f"train_zoo.py: {error}")
