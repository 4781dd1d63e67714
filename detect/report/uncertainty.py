"""What a page says of how sure the numbers of an evaluation are."""

from __future__ import annotations

from detect.evaluation.bootstrap import Bootstrap
from detect.report.charts import interval_spec
from detect.report.html import Page

CHARTED = 40  # classes up to which a chart shows their intervals


def uncertainty_section(page: Page, found: Bootstrap) -> None:
    """Add every number with its 95 % interval: single numbers, then those of classes or keypoints."""
    page.heading("How sure are these numbers?")
    count = len(next(iter(found.values.values()), ()))
    page.text(
        f"95 % intervals by a bootstrap over images: {count:,} resamples, each of as many images as there are, drawn "
        "with repetition. They say how much a number depends on which images the split happens to have, not on the "
        "seed of the training. Where few images decide a number, its interval is too narrow; where one "
        "does, there is none."
    )
    names = list(found.values)
    for group in dict.fromkeys(name[0] if len(name) > 1 else "" for name in names):
        some = [name for name in names if (name[0] if len(name) > 1 else "") == group]
        rows = [
            (" ".join(name[1:] or name), found.estimates[name], *(found.interval(name) or (None, None)))
            for name in some
        ]
        if group:
            page.heading(group.replace("_", " "), 3)
        page.table(("number", "value", "low", "high"), rows)
        known = {name: (value, low, high) for name, value, low, high in rows if low is not None and high is not None}
        if 0 < len(known) <= CHARTED:
            page.chart(interval_spec(known, group), f"{group.replace('_', ' ')} with 95 % intervals".strip())
