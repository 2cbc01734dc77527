"""What other programs are told of a run: OpenTelemetry and Prometheus. Optional, loaded only where asked for."""
