"""Checks a deployment: settings, database, and what stands before and beside the service."""

from app.services.operations.doctor.findings import Finding, fault, ok, warning
from app.services.operations.doctor.service import DoctorService

__all__ = ["DoctorService", "Finding", "fault", "ok", "warning"]
