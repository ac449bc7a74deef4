"""Train the zoo: a plan of stages, in as many calls as it takes, then pack the weights.

    python benchmarks/train_zoo.py --data fer2013.csv --runs runs/zoo --bundle runs/bundle

Each stage of `benchmarks/zoo.toml` trains its networks in RUNS/STAGE/MODEL/seedN. The same call
goes on where the last one ended, also in the middle of a run; `--stages` trains only some, and
`--budget` stops after so many minutes. A finished run is measured on PublicTest with one view,
two and ten, and leaves its best network, its scores and a line in RUNS/log.md.

`--bundle FOLDER` packs the products of the plan whose networks are there, with their records, and
says what they win over the bundled ones. `--limit` and `--epochs` make a rehearsal.
"""

import argparse
import json
import logging
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import bundle_weights
from harness import TimeIsUp, call, deadline, environment
from zoo_log import accuracies, accuracy, training_log
from zoo_plan import Job, Product, Stage, read_plan

import fer_zoo
from fer_zoo._device import resolve_device
from fer_zoo._files import replacing
from fer_zoo.data import FER2013, FaceDataset, FERPlus
from fer_zoo.errors import DataError
from fer_zoo.inference import fuse, member_scores
from fer_zoo.models import Classifier
from fer_zoo.training import read_history
from fer_zoo.training.objective import Teacher, write_answers
from fer_zoo.transforms import counterparts
from fer_zoo.weights.checkpoint import write_checkpoint
from fer_zoo.weights.storage import storage_dtype

PLAN = Path(__file__).parent / "zoo.toml"
log = logging.getLogger("train_zoo")


class Zoo:
    """The runs of a plan, below one folder."""

    def __init__(self, stages: list[Stage], options: argparse.Namespace) -> None:
        self.stages = {stage.name: stage for stage in stages}
        self.runs: Path = options.runs
        self.options = options
        self.faces = cache(self._faces)

    def _faces(self, data: str, split: str) -> FaceDataset:
        found = (FERPlus if data == "ferplus" else FER2013)(self.options.data, split)
        if self.options.limit is None:
            return found
        limit = self.options.limit
        return found.subset(limit if split == "train" else max(limit // 4, 210))

    def jobs(self, *names: str) -> list[Job]:
        """Return the runs of some stages, seed by seed."""
        return [
            Job(stage, model, seed, self.runs / stage.name / model / f"seed{seed}")
            for stage in map(self.stages.__getitem__, names)
            for seed in stage.seeds
            for model in stage.models
        ]

    def run(self, names: list[str], minutes: float | None) -> None:
        """Train and measure what is missing of some stages, for so many minutes; 0 for not at all.

        A stage without its data or its teachers is left out.
        """
        jobs = [job for job in self.jobs(*names) if not job.result and minutes != 0]
        try:
            with deadline(minutes):
                for job in jobs:
                    log.info("%s", job.folder)
                    try:
                        self.train(job)
                    except DataError as error:
                        log.warning("%s is left out: %s", job.folder, error)
                        continue
                    self.measure(job)
                    self.write_log()
        except TimeIsUp:
            log.warning("the budget of %g minutes is spent; the same call goes on", minutes)

    def train(self, job: Job) -> None:
        """Train one run to its end, or go on with it."""
        stage = job.stage
        faces = self.faces(stage.data, "train")
        if stage.continues:
            go_on_from(self.runs / stage.continues / job.model / f"seed{job.seed}", job.folder)
        model: str | Classifier = job.model
        if stage.starts:
            before = [j for j in self.jobs(stage.starts) if j.model == job.model and j.result]
            if not before:
                raise DataError(f"no run of {stage.starts}, from which it starts, is finished")
            model = fer_zoo.load(max(before, key=lambda j: accuracies(j)[0]).network)
            if model.labels != faces.labels:
                model.reset_classifier(len(faces.labels))
        fer_zoo.train(
            model,
            faces,
            validation=self.faces(stage.data, "public"),
            output=job.folder,
            recipe=stage.settings(job.seed),
            teacher=self.teacher(stage, faces),
            device=self.options.device,
        )

    def teacher(self, stage: Stage, faces: FaceDataset) -> Teacher | None:
        """Return the teachers of a stage, averaged, or the file of what they say of each face."""
        if not stage.teacher:
            return None
        if stage.settings().distill_on == "views":
            return self.mean(stage)
        path = self.runs / stage.name / "teacher.safetensors"
        if not path.is_file():
            mean = self.mean(stage)
            asked = member_scores(mean, faces.images, preset=stage.teacher_preset, progress=True)
            scores = fuse(mean, asked)
            write_answers(path, scores, faces, mean.labels)
        return path

    def mean(self, stage: Stage) -> Classifier:
        """Return the teachers of a stage as one model."""
        networks = [job.network for job in self.jobs(*stage.teacher) if job.result]
        if not networks:
            raise DataError(f"no run of {stage.teacher} is finished")
        log.info("%s learns from %s", stage.name, ", ".join(map(str, networks)))
        load = [fer_zoo.load(network, device=self.options.device) for network in networks]
        return fer_zoo.create_ensemble(load)

    def measure(self, job: Job) -> None:
        """Score a finished run on PublicTest and write down what it came to."""
        model = fer_zoo.load(job.network, device=self.options.device)
        public = self.faces(job.stage.data, "public")
        presets = [model.preset, *(p.name for p in counterparts(model.preset))]
        scores = {p: member_scores(model, public.images, preset=p, progress=True) for p in presets}
        config = {"labels": model.labels, "scores_for": public.fingerprint}
        write_checkpoint(job.folder / "scores.safetensors", scores, config)
        run = model.evidence.training
        seconds = sum(epoch.seconds for epoch in read_history(job.folder / "history.csv"))
        found: dict[str, Any] = {"stage": job.stage.name, "model": job.model, "seed": job.seed}
        found |= {"epochs": run.recipe["epochs"], "best_epoch": run.epoch, "n": len(public)}
        found |= {"minutes": round(seconds / 60, 1)}
        known = environment(resolve_device(self.options.device))
        found["device"] = known["gpu"] or f"{known['cpu']}, {known['threads']} threads"
        found["accuracy"] = {p: accuracy(s[0], public, model.labels) for p, s in scores.items()}
        with replacing(job.folder / "result.json") as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n")

    def write_log(self) -> str:
        """Write what the runs came to, and return it."""
        text = training_log(self)
        with replacing(self.runs / "log.md") as temporary:
            temporary.write_text(text)
        return text

    def bundle(self, product: Product, folder: Path) -> None:
        """Pack the best runs of a product's members, or say why not."""
        finished = [job for job in self.jobs(*product.stages) if job.result]
        runs = {
            name: [job for job in finished if job.model == name]
            for name in fer_zoo.models.get_spec(product.model).members
        }
        if missing := [name for name, jobs in runs.items() if not jobs]:
            log.warning("%s: no network of %s yet", product.model, missing)
            return
        bundle_weights.pack(
            product.model,
            {
                name: max(jobs, key=lambda job: accuracies(job)[0]).network
                for name, jobs in runs.items()
            },
            self.faces(self.stages[product.stages[0]].data, "public"),
            folder,
            tag=product.tag,
            dtype=storage_dtype(product.dtype),
            chosen={
                name: f"; best of {len(jobs)} runs" for name, jobs in runs.items() if len(jobs) > 1
            },
        )


def go_on_from(earlier: Path, output: Path) -> None:
    """Copy the state of a run for a longer one to go on from; nothing where `output` exists."""
    if not output.exists() and (earlier / "last.safetensors").is_file():
        copy = output.with_name(f".{output.name}")
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir(parents=True)
        for name in ("best.safetensors", "last.safetensors", "history.csv"):
            shutil.copy2(earlier / name, copy / name)
        copy.rename(output)


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
    parser.add_argument("--bundle", type=Path, help="folder for the packed weights")
    parser.add_argument("--limit", type=int, help="training faces, to try it out")
    parser.add_argument("--epochs", type=int, help="of every run, to try it out")
    parser.add_argument("--device")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    stages, products = read_plan(options.plan)
    if options.epochs:
        stages = [replace(s, changes=s.changes | {"epochs": options.epochs}) for s in stages]
    known = [stage.name for stage in stages]
    if unknown := set(options.stages or ()) - set(known):
        parser.error(f"no stage {sorted(unknown)}; the plan has {known}")
    zoo = Zoo(stages, options)
    zoo.run([name for name in known if name in (options.stages or known)], options.budget)
    print(zoo.write_log())
    for product in products if options.bundle else []:
        zoo.bundle(product, options.bundle)


if __name__ == "__main__":
    call(main)
