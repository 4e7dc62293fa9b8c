"""Every field of a configuration: its default, unit and meaning, once.

Other files of this folder start from `get_config()` and change some fields. On
the command line any field is overridden by its path:
`--config.optim.learning_rate=1e-4`. Unknown names, wrong types and values out
of range (`flairhub_jax/fields.py`) are errors; a missing field has its default.
"""

import ml_collections
from ml_collections import config_dict

from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.schema import Schema

# Fields without effect on the learned parameters: data location and readers,
# devices, memory, logging, number of checkpoints. A section stands for all its
# fields. `train` and `sweep` continue a run when only these differ, and
# `report` treats such runs as one configuration.
WITHOUT_EFFECT = (
  "mesh",
  "data.path",
  "data.num_workers",
  "model.remat",
  "train.compilation_cache",
  "train.keep_best",
  "train.keep_latest",
  "train.log_every",
  "train.save_every",
  "train.validation_maps",
)


def has_effect(field: str) -> bool:
  """Whether a field, by its dotted name, changes what is learned."""
  return not f"{field}.".startswith(
    tuple(f"{name}." for name in WITHOUT_EFFECT)
  )


def get_config(schema: Schema = FLAIR_HUB) -> ml_collections.ConfigDict:
  """Returns LC-A: aerial images to land cover, as the reference trains it.

  Args:
    schema: sensors and tasks. Training takes those of the data set.
  """
  config = ml_collections.ConfigDict()

  # Sensors and label tasks: bands, types, classes (flairhub_jax/schema.py).
  config.schema = schema

  # Seed of parameters, patch order, augmentation and dropout.
  config.seed = 2025

  # Compute dtype of matrix products and convolutions, "float32" or "bfloat16";
  # parameters, norms, softmax and losses stay in float32.
  config.dtype = "float32"
  # Precision of float32 products (`jax.default_matmul_precision`): "default" is
  # the fast one of the device (CPU: float32; NVIDIA GPU: TF32, 3 digits; TPU:
  # bfloat16, 2 to 3 digits), "high" (GPU: TF32; TPU: three bfloat16 products,
  # 5 digits) or "highest" (float32 everywhere: logits within 1e-5 of their
  # standard deviation from the reference's). TF32 is enough for training;
  # `import-weights` sets "highest". `evaluate` and `predict` use the run's.
  config.matmul_precision = "default"
  # Deterministic GPU kernels (no atomic sums, no autotuning), so that an
  # interrupted run continues bit for bit; slower. CPUs and TPUs always are.
  config.deterministic = False
  # Devices of all processes: `data` splits the batch; `fsdp` splits the batch,
  # large parameters and their optimiser state. -1: all remaining devices.
  config.mesh = ml_collections.ConfigDict(dict(data=-1, fsdp=1))

  # ---- data ----------------------------------------------------------------
  config.data = data = ml_collections.ConfigDict()
  data.path = ""  # folder that `flairhub convert` wrote
  data.fingerprint = config_dict.placeholder(str)  # of the data; set by train
  data.modalities = tuple(schema.sensors)[:1]  # ids of sensors, one or more
  data.tasks = tuple(schema.tasks)[:1]  # ids of label tasks
  data.batch_size = 5  # patches per step, over all devices
  data.num_workers = 0  # reader processes; 0: threads of the main process
  # Augmentations of each training patch, in this order: "crop", "symmetry"
  # (flips and rotations by 90 degrees, of square patches), "colour", "noise",
  # "dates". Cropping first saves time.
  data.augment = ()
  data.augmentation = augmentation = ml_collections.ConfigDict()
  # Side of a crop as a fraction of the patch's: a whole number of pixels of
  # each sensor and task, from a corner of pixels that all have in common.
  # Validation is of whole patches.
  augmentation.crop = ml_collections.ConfigDict(dict(fraction=0.5))
  # Each of `sensors` (those not in use have no effect) by itself: up to this
  # fraction brighter or darker, of more or less contrast; bands R, G and B up
  # to this fraction more or less saturated, and of a hue turned by up to this
  # fraction of the circle.
  augmentation.colour = ml_collections.ConfigDict(dict(sensors=()))
  augmentation.colour.brightness = 0.2
  augmentation.colour.contrast = 0.2
  augmentation.colour.saturation = 0.2
  augmentation.colour.hue = 0.05
  # Gaussian noise of each value, in standard deviations of the band
  # (`config.inputs.<sensor>.std`).
  augmentation.noise = ml_collections.ConfigDict(dict(sensors=()))
  augmentation.noise.deviation = 0.05
  # Probability of dropping a date of a series; one stays.
  augmentation.dates = ml_collections.ConfigDict(dict(probability=0.2))
  # Padded lengths of time series, in dates. A batch uses the smallest length
  # that fits all its series, but pads a series no further than the longest one
  # of the split; longer series are subsampled evenly to the last length. Each
  # length compiles one program.
  data.date_buckets = (32, 64, 128, 256)
  # Month-day from which dates are counted, in the year of each acquisition; the
  # year of a year-month-day is ignored.
  data.reference_date = "05-15"
  # A Sentinel-2 date is used if at most the fraction `max_cover` of its pixels
  # exceeds a cloud or snow probability (0-100).
  data.cloud_filter = ml_collections.ConfigDict()
  data.cloud_filter.enabled = True
  data.cloud_filter.max_cloud = 1.0
  data.cloud_filter.max_snow = 1.0
  data.cloud_filter.max_cover = 0.05
  # If no date passes: "least_covered" uses the clearest one, "snow_free" drops
  # the cloud test as the reference does.
  data.cloud_filter.fallback = "least_covered"
  # Periods of `temporal_average` below: "observed" averages over all years and
  # masks periods without a date; "reference" does as the reference (repeats the
  # last period, stale days, one year only).
  data.averaging = "observed"
  # "custom": (value - mean) / std per band; "scaling": integers divided by the
  # maximum of their type; "without": values unchanged.
  data.normalisation = "custom"

  # ---- per modality: bands and their statistics ----------------------------
  # `mean` and `std` are by band name, so that a choice of bands cannot mix them
  # up; empty: values unchanged.
  config.inputs = ml_collections.ConfigDict()
  for row in schema.sensors.values():
    config.inputs[row.id] = ml_collections.ConfigDict(
      dict(
        bands=row.network_bands,
        mean=dict(row.mean),
        std=dict(row.std),
        # Height and width of a patch; `train` sets it from the data.
        pixels=row.pixels or 256,
        # Ground sampling distance in metres; `train` sets it from the data.
        gsd=row.gsd,
      )
    )
    if row.is_series:
      # Length of the longest padded series, for FLOP counts; `train` sets it
      # from the data.
      config.inputs[row.id].num_dates = row.num_dates or 1
      # "none", "monthly" or "semi-monthly": 12 or 24 dates instead of all.
      config.inputs[row.id].temporal_average = "none"

  # ---- the network --------------------------------------------------------
  config.model = model = ml_collections.ConfigDict()
  # One encoder per image modality; names as in timm, and `swin_nano` for CPUs.
  model.encoder = "swin_base_patch4_window12_384"
  # Stochastic depth of the last block, rising linearly from 0; None: that of
  # the reference's encoder (Swin 0.1, others 0).
  model.drop_path_rate = config_dict.placeholder(float)
  # Initial weights of image encoders: a file of `flairhub import-encoder`.
  model.encoder_weights = ""
  # Rematerialisation of encoders, less memory for more time: "none", "stage" or
  # "block": the backward pass recomputes a stage or block from its input.
  # Without effect on CPUs, where XLA undoes it.
  model.remat = "none"
  model.decoder = "upernet"  # `upernet_nano` has a quarter of its channels
  model.auxiliary = ()  # modalities with an auxiliary decoder and loss
  # One U-TAE per time series.
  model.utae = utae = ml_collections.ConfigDict()
  utae.encoder_widths = (64, 64, 64, 128)
  utae.decoder_widths = (32, 32, 64, 128)
  utae.head_widths = (32, 19)  # the reference's `out_conv`
  utae.kernel = 3  # of the convolution between levels
  utae.stride = 1  # 1 keeps the 10 x 10 pixels of Sentinel at every level
  utae.padding = 1
  utae.aggregation = "att_group"
  utae.encoder_norm = "group"
  utae.padding_mode = "reflect"
  utae.num_heads = 16
  utae.attention_width = 256  # d_model
  utae.key_width = 4  # d_k
  utae.attention_dropout = 0.1
  utae.mlp_dropout = 0.2
  # Whether the norm before the attention includes padded dates as zeros, as in
  # the reference's training. `evaluate` and `predict` never include them: the
  # reference predicts patch by patch, without padding.
  utae.count_padding = False

  config.fusion = ml_collections.ConfigDict()
  # What is fused: "early": inputs, as one image; "mid_concat" (the reference),
  # "mid_mean", "mid_gated", "mid_attention": features of the encoders;
  # "late_mean", "late_gated": logits of one decoder per modality.
  config.fusion.kind = "mid_concat"
  # Options of kinds; others have none. Where all inputs are series, only those
  # of "early" have an effect: logits are mixed instead of features.
  # Composites of a series, each of a part of the year, that become bands.
  config.fusion.early = ml_collections.ConfigDict(dict(periods=12))
  # Heads, a divisor of the channels of each level; width of the keys of each.
  config.fusion.mid_attention = ml_collections.ConfigDict(dict(num_heads=4))
  config.fusion.mid_attention.key_width = 16
  # Probability of dropping a modality of a training sample; never all of them.
  config.fusion.modality_dropout = ml_collections.ConfigDict(
    dict.fromkeys(schema.sensors, 0.0)
  )

  # ---- per task: weights of the loss -----------------------------------------
  config.tasks = ml_collections.ConfigDict()
  for task in schema.tasks.values():
    config.tasks[task.id] = ml_collections.ConfigDict(
      dict(
        weight=1.0,  # of this task's loss in the sum
        # Classes to train on instead of the task's: new name -> names of the
        # classes merged into it, every class once; {}: the task's classes.
        merge={},
        # One weight per class; 0 ignores a class in the loss and the metrics.
        class_weights=tuple(float(w) for w in task.scored),
        # Class weights are multiplied by (median frequency / frequency of the
        # class) to this power, over the training split.
        frequency_power=0.0,
      )
    )
  # "fixed": the weights above; "uncertainty": times exp(-s), plus s / 2, with
  # a learned s per task (Kendall, Gal and Cipolla 2018).
  config.task_weighting = "fixed"
  # Weight of each auxiliary loss; those of a task are averaged.
  config.auxiliary_weight = ml_collections.ConfigDict(
    dict.fromkeys(schema.sensors, 1.5)
  )
  # Losses that are summed, each with its weight and options; one of weight 0 is
  # not computed.
  config.loss = loss = ml_collections.ConfigDict()
  loss.cross_entropy = ml_collections.ConfigDict(dict(weight=1.0))
  # Fraction of a label that is spread over all classes.
  loss.cross_entropy.label_smoothing = 0.0
  loss.focal = ml_collections.ConfigDict(dict(weight=0.0, gamma=2.0))
  loss.dice = ml_collections.ConfigDict(dict(weight=0.0))
  loss.lovasz = ml_collections.ConfigDict(dict(weight=0.0))

  # ---- optimisation ---------------------------------------------------------
  config.optim = optim = ml_collections.ConfigDict()
  optim.name = "adamw"  # or adam, sgd, lamb, lion
  optim.learning_rate = 5e-5  # the peak of the schedule
  optim.weight_decay = 0.01
  optim.beta1 = 0.9
  optim.beta2 = 0.999
  optim.momentum = 0.0  # of sgd
  optim.clip_norm = 0.0  # global gradient norm; 0: no clipping
  # Factors of the learning rate: per encoder (0 freezes it), and of each stage
  # of an image encoder relative to the stage above it.
  optim.encoder_rates = ml_collections.ConfigDict(
    dict.fromkeys(schema.sensors, 1.0)
  )
  optim.layer_decay = 1.0
  # "one_cycle", "cosine", "constant", "reduce_on_plateau" (constant until
  # validation stops improving), "cycle_then_plateau" (the rise of one cycle,
  # then reduced on plateaus).
  optim.schedule = "one_cycle"
  # One cycle: cosine from peak / div_factor to the peak over the first
  # `warmup_fraction` of the steps, then down to peak / div_factor /
  # final_div_factor.
  optim.warmup_fraction = 0.2
  optim.div_factor = 1e3
  optim.final_div_factor = 1e4
  optim.plateau = ml_collections.ConfigDict()
  optim.plateau.patience = 10  # validations without improvement
  optim.plateau.factor = 0.5
  optim.plateau.cooldown = 4  # validations ignored after a reduction
  optim.plateau.min_rate = 1e-7

  # ---- the run --------------------------------------------------------------
  config.train = train = ml_collections.ConfigDict()
  # Run directory whose best weights are the initial ones. Classes are taken by
  # name; those that the run lacks are drawn.
  train.init_from = ""
  # Its sensors and tasks that have other ids there: "NEW=OLD".
  train.init_names = ()
  train.num_epochs = 150
  # Number of steps instead of epochs; None: num_epochs epochs.
  train.num_steps = config_dict.placeholder(int)
  # Gradient accumulation: parts of a batch per update, for less memory. The
  # gradient is that of the whole batch; batch norms and dropout see one part.
  train.accumulation = 1
  # Batch norms in training: "global" statistics of the batch of all devices, or
  # of each "device" alone, as the reference does with several GPUs.
  train.batch_statistics = "global"
  train.log_every = 10  # steps
  train.save_every = 500  # steps; every validation saves too
  # Number of checkpoints. If the latest is broken, a run continues from the one
  # before.
  train.keep_latest = 2
  train.keep_best = 1
  # Steps between validations; None: validate_epochs epochs.
  train.validate_every = config_dict.placeholder(int)
  train.validate_epochs = 1
  # Decay of an exponential moving average of the parameters, used for
  # validation, evaluation and prediction; 0: no average.
  train.ema_decay = 0.0
  # Early stopping after this many validations without improvement; 0: never.
  train.patience = 0
  train.validation_maps = 3  # patches drawn at each validation
  # Folder of the persistent compilation cache; "": JAX_COMPILATION_CACHE_DIR.
  train.compilation_cache = ""
  # Validation score that selects the best checkpoint, `<task>/<score>`, higher
  # is better: "miou" (published), "weighted_iou" (the reference's criterion),
  # "iou/<class>" of one class. None: mIoU of the first task.
  train.best_metric = config_dict.placeholder(str)
  return config
