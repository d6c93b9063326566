"""Reports: the figures of one run or of a thousand, as tables, charts and pages.

::

    from analyzer.report import make_report

    report = make_report(["outputs"], by="week")
    report.document["total"]["occupancy"]
    report.save(["html", "png"])
"""

from analyzer.report.build import Report, make_report
from analyzer.report.dataset import Chosen
from analyzer.report.files import FORMATS

__all__ = ["FORMATS", "Chosen", "Report", "make_report"]
