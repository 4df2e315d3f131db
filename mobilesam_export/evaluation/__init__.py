"""How good are the masks? dataset -> scores -> log, report, overlays."""
