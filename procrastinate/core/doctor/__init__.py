"""Examine the installation: the schema, the server, the workers and the work. Each trouble is a finding."""

from __future__ import annotations

from procrastinate.core.doctor.diagnose import diagnose
from procrastinate.core.doctor.findings import Diagnosis, DoctorLimits, Examination, Finding, Severity

__all__ = ["Diagnosis", "DoctorLimits", "Examination", "Finding", "Severity", "diagnose"]
