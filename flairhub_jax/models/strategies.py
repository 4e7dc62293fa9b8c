"""The table of fusion strategies."""

from collections.abc import Mapping

from flairhub_jax.models import early, fusion, late, mid

_ATTENTION = fusion.Kind(
  mid.MidFusion, mid.MidAttention, options=("num_heads", "key_width")
)
_EARLY = fusion.Kind(early.EarlyFusion, options=("periods",))
_MEAN = fusion.Kind(late.SeriesFusion, late.MeanLogits)
_GATED = fusion.Kind(late.SeriesFusion, late.GatedLogits)
# `config.fusion.kind` -> strategy with images, strategy with series only.
FUSIONS: Mapping[str, tuple[fusion.Kind, fusion.Kind]] = {
  "early": (_EARLY, _EARLY),
  "mid_concat": (fusion.Kind(mid.MidFusion, mid.MidConcat), _MEAN),
  "mid_mean": (fusion.Kind(mid.MidFusion, mid.MidMean), _MEAN),
  "mid_gated": (fusion.Kind(mid.MidFusion, mid.MidGated), _GATED),
  "mid_attention": (_ATTENTION, _GATED),
  "late_mean": (fusion.Kind(late.LateFusion, late.MeanLogits), _MEAN),
  "late_gated": (fusion.Kind(late.LateFusion, late.GatedLogits), _GATED),
}
