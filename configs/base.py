"""Every field of a configuration: its default, unit and meaning, once.

Other files of this folder start from `get_config()` and change what they are
about. On the command line any field is overridden by its path:
`--config.optim.learning_rate=1e-4`. Unknown names, other types and values out
of their range (`flairhub_jax/fields.py`) fail; a missing field has its default.
"""

import ml_collections
from ml_collections import config_dict

from flairhub_jax import labels, modalities

# Fields that do not change what is learned: where data are read from and how
# fast, devices, memory, logs and checkpoints. A section stands for all its
# fields. `train` and `sweep` continue a run with other values of them, and
# `report` averages over them.
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


def get_config() -> ml_collections.ConfigDict:
  """Returns LC-A: aerial images to land cover, as the reference trains it."""
  config = ml_collections.ConfigDict()

  # All randomness (parameters, order of patches, augmentation, dropout).
  config.seed = 2025

  # Type of the products, "float32" or "bfloat16"; parameters, norms, softmax
  # and losses stay in float32.
  config.dtype = "float32"
  # How exact products of float32 are: "default" is what the device is fast at
  # (a CPU: float32; an NVIDIA GPU: TF32, 3 digits; a TPU: bfloat16, 2 to 3
  # digits), "high" (GPU: TF32; TPU: three bfloat16 products, 5 digits) or
  # "highest" (float32 everywhere: the reference's logits to 1e-5 of their
  # deviation). TF32 changes training no more than another seed of dropout does;
  # runs of `import-weights` have "highest". `evaluate` and `predict` take the
  # value of the run.
  config.matmul_precision = "default"
  # Whether a GPU computes the same numbers each time, so that a run that was
  # interrupted continues bit for bit. Slower there: no atomic sums, no choice
  # of kernels by timing. CPUs and TPUs always do.
  config.deterministic = False
  # Devices, over all processes: each takes its part of a batch; along `fsdp`
  # large parameters and their optimiser state are sharded too. -1: the devices
  # that the other axis leaves.
  config.mesh = ml_collections.ConfigDict(dict(data=-1, fsdp=1))

  # ---- what is read -------------------------------------------------------
  config.data = data = ml_collections.ConfigDict()
  data.path = ""  # folder that `flairhub convert` wrote
  data.fingerprint = config_dict.placeholder(str)  # of those data; filled in
  data.modalities = ("AERIAL_RGBI",)  # published ids, any non-empty subset
  data.tasks = ("AERIAL_LABEL-COSIA",)  # published ids of the label rasters
  data.batch_size = 5  # patches per step, over all devices together
  data.num_workers = 0  # reading processes; 0 reads in threads of this one
  # Flips and turns of the whole patch; quarter turns of square patches only.
  data.augment = False
  # Padded lengths of time series, in dates: a batch takes the smallest that
  # holds the longest of all its series, and pads none beyond the longest of
  # that series in its split; longer series are thinned evenly to the last. Each
  # length is a program of its own.
  data.date_buckets = (32, 64, 128, 256)
  # Month-day from which dates are counted, in the year of each; the year of a
  # year-month-day does not count.
  data.reference_date = "05-15"
  # A Sentinel-2 date is kept if at most `max_cover` (fraction of its pixels)
  # exceed a cloud or snow probability (0-100).
  data.cloud_filter = ml_collections.ConfigDict()
  data.cloud_filter.enabled = True
  data.cloud_filter.max_cloud = 1.0
  data.cloud_filter.max_snow = 1.0
  data.cloud_filter.max_cover = 0.05
  # Where no date passes: "least_covered" keeps the clearest one, "snow_free"
  # drops the cloud test as the reference does.
  data.cloud_filter.fallback = "least_covered"
  # How `temporal_average` below treats periods without a date: "observed"
  # averages over all years and pads periods without a date; "reference" does
  # as the reference (repeats the last period, stale days, one year only).
  data.averaging = "observed"
  # "custom": (value - mean) / std of each band; "scaling": whole numbers over
  # the largest of their type; "without": values go in as they are.
  data.normalisation = "custom"

  # ---- per modality: which bands, and their statistics ----------------------
  # `mean` and `std` are by band name, so choosing bands cannot mix them up;
  # empty means the values go in as they are.
  config.inputs = ml_collections.ConfigDict()
  for row in modalities.MODALITIES.values():
    config.inputs[row.id] = ml_collections.ConfigDict(
      dict(
        bands=row.default_bands,
        mean=dict(row.mean),
        std=dict(row.std),
        # Size of a patch; a training run takes that of its data.
        pixels=row.pixels,
      )
    )
    if row.is_series:
      # Dates of the longest padded series; a training run takes those of its
      # data. FLOPs are counted with them.
      config.inputs[row.id].num_dates = row.num_dates or 1
      # "none", "monthly" or "semi-monthly": 12 or 24 dates instead of all.
      config.inputs[row.id].temporal_average = "none"

  # ---- the network --------------------------------------------------------
  config.model = model = ml_collections.ConfigDict()
  # One encoder per image modality; names as in timm, and `swin_nano` for CPUs.
  model.encoder = "swin_base_patch4_window12_384"
  # Of the last block, rising linearly from 0; None: as the reference trains
  # the encoder (Swin 0.1, others 0).
  model.drop_path_rate = config_dict.placeholder(float)
  # File of `flairhub import-encoder` from which image encoders start.
  model.encoder_weights = ""
  # Rematerialisation: activations of encoders that a step keeps for its
  # backward pass, which recomputes the rest, for less memory and more time.
  # "none": all; "stage", "block": only the inputs of each. XLA for CPUs undoes
  # it.
  model.remat = "none"
  model.decoder = "upernet"  # `upernet_nano` has a quarter of its channels
  model.auxiliary = ()  # modalities that get a decoder and a loss of their own
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
  # Whether padded dates count as zeros in the norm before the attention, as
  # the reference trains it. `evaluate` and `predict` never count them: the
  # reference predicts patch by patch, without padding.
  utae.count_padding = False

  config.fusion = ml_collections.ConfigDict()
  # Where modalities meet: "early" in one image; "mid_concat" (the reference),
  # "mid_mean", "mid_gated", "mid_attention" in the encoders' features;
  # "late_mean", "late_gated" in the logits of decoders of their own.
  config.fusion.kind = "mid_concat"
  # Probability that training leaves a modality out of a sample; never all.
  config.fusion.modality_dropout = ml_collections.ConfigDict(
    dict.fromkeys(modalities.MODALITIES, 0.0)
  )

  # ---- per task: what counts ------------------------------------------------
  config.labels = ml_collections.ConfigDict()
  for task in labels.TASKS.values():
    config.labels[task.id] = ml_collections.ConfigDict(
      dict(
        weight=1.0,  # of this task's loss in the sum
        # One weight per class; 0 leaves a class out of loss and metrics.
        class_weights=tuple(float(w) for w in task.scored),
        # The weights times (median / own training frequency) to this power.
        frequency_power=0.0,
      )
    )
  # "fixed": the weights above; "uncertainty": times exp(-s), plus s / 2, with
  # a learned s per task (Kendall, Gal and Cipolla 2018).
  config.task_weighting = "fixed"
  # Of each auxiliary decoder's loss; a task's are averaged.
  config.auxiliary_weight = ml_collections.ConfigDict(
    dict.fromkeys(modalities.MODALITIES, 1.5)
  )
  # Weights in the sum that is minimised; those of 0 are not computed.
  config.loss = loss = ml_collections.ConfigDict()
  loss.cross_entropy = 1.0
  loss.focal = 0.0
  loss.dice = 0.0
  loss.lovasz = 0.0
  loss.label_smoothing = 0.0  # fraction of a label spread over all classes
  loss.focal_gamma = 2.0

  # ---- optimisation ---------------------------------------------------------
  config.optim = optim = ml_collections.ConfigDict()
  optim.name = "adamw"  # or adam, sgd, lamb, lion
  optim.learning_rate = 5e-5  # the peak of the schedule
  optim.weight_decay = 0.01
  optim.beta1 = 0.9
  optim.beta2 = 0.999
  optim.momentum = 0.0  # of sgd
  optim.clip_norm = 0.0  # of the gradient of all parameters; 0: never clipped
  # Factors of the rate: of each encoder (0 freezes it), and of each stage of
  # an image encoder against the stage above it.
  optim.encoder_rates = ml_collections.ConfigDict(
    dict.fromkeys(modalities.MODALITIES, 1.0)
  )
  optim.layer_decay = 1.0
  # "one_cycle", "cosine", "constant", "reduce_on_plateau" (constant until
  # validations stop improving), "cycle_then_plateau" (its rise, then that).
  optim.schedule = "one_cycle"
  # One cycle: cosine from peak / div_factor to the peak over the first
  # `warmup_fraction` of the steps, then to the start / final_div_factor.
  optim.warmup_fraction = 0.2
  optim.div_factor = 1e3
  optim.final_div_factor = 1e4
  optim.plateau = ml_collections.ConfigDict()
  optim.plateau.patience = 10  # validations without a better score
  optim.plateau.factor = 0.5
  optim.plateau.cooldown = 4  # validations that do not count after that
  optim.plateau.min_rate = 1e-7

  # ---- the run --------------------------------------------------------------
  config.train = train = ml_collections.ConfigDict()
  train.init_from = ""  # run directory from whose best weights this starts
  train.num_epochs = 150
  # Instead of epochs; None: num_epochs times the steps of one pass.
  train.num_steps = config_dict.placeholder(int)
  # Micro-batches into which each device splits its part of a batch, for less
  # memory: the gradient is that of the whole batch, but batch statistics and
  # dropout are those of each micro-batch.
  train.accumulation = 1
  # What a batch norm takes its mean and variance over while training: "global",
  # the batch of all devices; "device", the part of each device, as in the
  # reference with several GPUs.
  train.batch_statistics = "global"
  train.log_every = 10  # steps
  train.save_every = 500  # steps; every validation saves too
  # Checkpoints; if the latest is damaged, a run continues from the one before.
  train.keep_latest = 2
  train.keep_best = 1
  # Steps between validations; None: the steps of validate_epochs passes.
  train.validate_every = config_dict.placeholder(int)
  train.validate_epochs = 1
  # Decay of an exponential moving average of the parameters, which is then
  # validated and used instead of them; 0: none.
  train.ema_decay = 0.0
  # Validations without a better score after which training ends; 0: never.
  train.patience = 0
  train.validation_maps = 3  # patches drawn at each validation
  # Folder of the persistent compilation cache; "": that of
  # JAX_COMPILATION_CACHE_DIR, if it is set.
  train.compilation_cache = ""
  # What "best" means: `<task>/<score>` of the validation, higher is better:
  # "miou" is the published one, "weighted_iou" what the reference selects by,
  # "iou/<class>" that of one class. None: the first task's mIoU.
  train.best_metric = config_dict.placeholder(str)
  return config
