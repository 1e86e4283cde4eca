"""Offline HTML reports, filled-in Jinja2 templates: one file each, pictures inside."""

from prospect_lib.reports.audit_report import audit_html
from prospect_lib.reports.model_report import comparison_html, report_html

__all__ = ["audit_html", "comparison_html", "report_html"]
