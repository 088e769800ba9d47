"""The keys that all studies share, and how a row becomes a config."""

import difflib

from ml_collections import ConfigDict


def base() -> ConfigDict:
    """All keys that every study has, with their neutral values. docs/configuration.md is made from the comments."""
    return ConfigDict(
        dict(
            study="",  # name of the study; its config file sets it
            row="",  # name of the row; its config file sets it
            seed=0,  # first seed
            replicas=1,  # number of seeds, seed … seed+replicas-1, trained in one program
            grid=(),  # settings to compare in place of seeds: pairs of a key and its values, in all combinations
            protocol="honest",  # one of data.protocols, such as "paper"
            published=dict(),  # published numbers: split -> metric -> value
            start_from="",  # folder of a run of the same network, whose chosen weights are the initial ones; "": none
            # Clips, and how they are cut into train, valid and test.
            data=dict(
                name="",  # data set: a module of audiojax/data/datasets
                variant="released",  # or "stand_in", a small synthesised data set
                split_seed=0,  # seed of random cuts
                split_file="",  # csv of clip and split, or of clip and fold, in place of a random cut
                test_fold="",  # fold of split_file that is test
                group_file="",  # csv of clip and group, such as its artist, in place of the data set's groups
                strict=True,  # stop at files that cannot be read; False leaves them out
                # Unreliable labels made on purpose, to compare recipes.
                hide=dict(
                    share=0.0,  # share of the training clips that are marked as unverified
                    wrong=0.0,  # share of those that get another label
                ),
                label_file="",  # csv of clip and label (subset, weight), or a run that wrote one: the training clips
                subset_weights=dict(),  # weight in the loss of each subset of the training clips; 0 leaves it out
                exclude_classes=(),  # names of classes to leave out
                # Windows of clips, each an example.
                segment=dict(
                    seconds=0.0,  # length of a window; 0: whole clips
                    hop_s=0.0,  # time between the starts of two windows; 0: their length
                    shortest_s=0.0,  # a shorter last window is left out
                    pad="zeros",  # what fills a short window: "zeros", or "repeat" for the clip again
                ),
                protocols=dict(),  # protocol -> released splits for train, valid and test, and fractions to cut off
            ),
            frontend=dict(name=""),  # function of audiojax/frontend.py, with its arguments
            # Functions of audiojax/augment.py with their arguments, applied in order, in training alone.
            augment=dict(
                waveform=(),  # before the front end
                features=(),  # after the front end
            ),
            # Network: a module of audiojax/models, with the fields of its Model.
            model=dict(
                name="",  # module of audiojax/models
                kernel_init="lecun_normal",  # initialiser of flax.linen.initializers
            ),
            # Task: what a training step computes.
            task=dict(
                name="supervised",  # module of audiojax/tasks
                loss="",  # loss of audiojax/losses.py
                prior_bias=False,  # output biases start at the classes' frequencies
                positive_weight=1.0,  # weight of a label's presence in the loss
                competition=0.0,  # share, 0 … 1, in which the classes of several labels compete at prediction
            ),
            recipe=dict(name="single"),  # module of audiojax/recipes, with its settings
            # Optimiser, a chain of optax.
            optim=dict(
                name="adam",  # "adam", "sgd" or "momentum"
                b1=0.9,  # decay of Adam's mean of gradients
                lr=0.0,  # peak learning rate
                schedule="constant",  # or "cosine", which ends at 0
                warmup=0.0,  # share of the steps in which the rate rises from 0
                weight_decay=0.0,  # decoupled, on kernels alone
                clip_norm=0.0,  # largest norm of the whole gradient; 0: no limit
                average_share=0.0,  # time constant of the averaged weights as a share of the steps; 0: no average
            ),
            batch_size=0,  # training examples a step, for each replica
            eval_batch_size=0,  # examples an evaluation step
            epochs=0.0,  # duration; exactly one of epochs, steps and examples is above 0
            steps=0,  # duration in steps
            examples=0,  # duration in training examples
            eval_every=1.0,  # time between evaluations, in the unit of the duration
            early_stopping=0,  # stop after so many evaluations without a better one; 0: never
            select="",  # metric by which validation chooses the step
            dtype="float32",  # of computation, or "bfloat16"
            # How a run is computed. A folder does not depend on these keys.
            run=dict(
                source="auto",  # of batches: "resident" in device memory, "stream" from disk, or what fits
                steps_per_call=1,  # training steps in one call of the compiled program
                cpu_devices=1,  # devices that the cores of a CPU are divided into; they share replicas and batches
                keep=2,  # checkpoints
                malloc="keep",  # freed memory on Linux CPU hosts: "keep" within bounds, "huge_pages" or "system"
                trackers=("tensorboard",),  # where metrics go besides metrics.jsonl
                members="",  # folder of the table in which a row finds the runs that it builds on; "": its own table
                first_layer=False,  # save the first convolution's activations for one test clip, for the report
            ),
        )
    )


def choose(study: str, base_config: ConfigDict, rows: dict, row: str | None) -> ConfigDict:
    """The locked config of a study, with the overrides of a row if one is named."""
    base_config.update(dict(study=study, row=row or ""))
    base_config.published = ConfigDict()
    if row is not None:
        if row not in rows:
            near = difflib.get_close_matches(row, rows, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise SystemExit(f"audiojax: {study} has no row {row!r}; {hint}rows: {', '.join(rows)}.")
        base_config.published = ConfigDict(rows[row]["published"])
        for section, values in rows[row]["overrides"].items():
            # Another name means other arguments, so the section is replaced. All optimisers share their settings.
            renamed = isinstance(values, dict) and "name" in values and section != "optim"
            if renamed or not isinstance(values, dict):
                kept = {"kernel_init": "lecun_normal"} if section == "model" else {}
                base_config[section] = ConfigDict(kept | values) if renamed else values
            else:
                base_config[section].update(values)
    return base_config.lock()
