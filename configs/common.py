"""What all studies share: keys with their neutral values, row lookup, protocols."""

import difflib

from ml_collections import ConfigDict


def base() -> ConfigDict:
    """Every key that all studies have. Numbers of a study stand in its own file."""
    return ConfigDict(
        dict(
            study="",
            row="",
            seed=0,
            replicas=1,  # seeds seed … seed+replicas-1, trained in one program
            grid=(),  # or combinations of settings, all of one seed: (key, values), …
            protocol="honest",  # or "paper"
            published=dict(),  # split -> metric -> value
            start_from="",  # folder of a run of the same network, whose chosen weights are the first ones; "": new ones
            data=dict(
                name="",
                variant="released",  # or "stand_in"
                split_seed=0,
                split_file="",  # csv of clip and split, or of clip and fold, in place of a random cut
                test_fold="",  # the fold that is test
                group_file="",  # csv of clip and group (or artist), in place of the data set's groups
                strict=True,  # stop on unreadable files instead of leaving them out
                hide=dict(share=0.0, wrong=0.0),  # of the training clips, made unverified; of these, labelled wrong
                label_file="",  # csv of clip, label (subset, weight): train is these clips; or the run that wrote one
                subset_weights=dict(),  # of the loss, by subset of the training clips; 0 leaves it out
                exclude_classes=(),
                # Examples are windows of clips. 0 s: whole clips; hop of 0: window after window.
                segment=dict(seconds=0.0, hop_s=0.0, shortest_s=0.0, pad="zeros"),  # pad: or "repeat"
                protocols=dict(),
            ),
            frontend=dict(name=""),
            augment=dict(waveform=(), features=()),  # before and after the front end, in this order, in training alone
            model=dict(name="", kernel_init="lecun_normal"),
            # prior_bias: outputs start at the classes' shares. positive_weight: of a label's presence in the loss.
            # competition: of several labels when they are predicted, in 0 … 1: losses.compete.
            task=dict(name="supervised", loss="", prior_bias=False, positive_weight=1.0, competition=0.0),
            recipe=dict(name="single"),
            optim=dict(
                name="adam",
                b1=0.9,  # of Adam: decay of its mean
                lr=0.0,
                schedule="constant",
                warmup=0.0,
                weight_decay=0.0,
                clip_norm=0.0,
                average_share=0.0,  # time constant of the weights' exponential average, a share of the steps; 0: none
            ),
            batch_size=0,
            eval_batch_size=0,
            epochs=0.0,  # exactly one of epochs, steps and examples is above 0
            steps=0,
            examples=0,
            eval_every=1.0,  # in the unit of the duration
            early_stopping=0,  # evaluations without a better one; 0: never
            select="",  # metric by which validation chooses the step
            dtype="float32",
            run=dict(  # how a run is computed; a folder does not depend on it
                source="auto",  # of batches: "resident" in device memory, "stream" from disk, or what fits
                steps_per_call=1,  # training steps in one call of the compiled program
                cpu_devices=1,  # devices that the cores of a CPU are divided into; they share replicas and batches
                keep=2,  # checkpoints
                malloc="huge_pages",  # memory on Linux CPU hosts: "keep", "huge_pages" or "system"
                trackers=("tensorboard",),  # where metrics go besides metrics.jsonl
                members="",  # folder of the table in which a row finds the runs that it builds on; "": its own table
            ),
        )
    )


def choose(study: str, base_config: ConfigDict, rows: dict, row: str | None) -> ConfigDict:
    """The locked config of a row: the study's, with the row's overrides. Without a row: the study's alone."""
    base_config.update(dict(study=study, row=row or ""))
    base_config.published = ConfigDict()
    if row is not None:
        if row not in rows:
            near = difflib.get_close_matches(row, rows, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise SystemExit(f"audiojax: {study} has no row {row!r}; {hint}rows: {', '.join(rows)}.")
        base_config.published = ConfigDict(rows[row]["published"])
        for section, values in rows[row]["overrides"].items():
            # Another function takes other arguments, but every optimiser has all settings.
            renamed = isinstance(values, dict) and "name" in values and section != "optim"
            if renamed or not isinstance(values, dict):
                kept = {"kernel_init": "lecun_normal"} if section == "model" else {}
                base_config[section] = ConfigDict(kept | values) if renamed else values
            else:
                base_config[section].update(values)
    return base_config.lock()
