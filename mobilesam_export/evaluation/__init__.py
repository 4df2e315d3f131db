"""Quality of masks: dataset -> scores -> log, report, overlays."""
