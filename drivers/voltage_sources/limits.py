"""What every voltage source may be told in a testbed file."""

from pydantic import Field

from drivers.limits import VoltageLimits


class VoltageOptions(VoltageLimits):
    """Limits of one output, and where it rests."""

    settle_s: float = Field(0.0, ge=0, le=60, description="How long the load takes to follow, s.")
    timeout_s: float = Field(1.0, gt=0, le=60, description="Longest wait for a reply, s.")

    def check_reach(self, lowest_v: float, highest_v: float, what: str) -> None:
        """Raise ValueError where the limits exceed what the instrument can do."""
        if self.min_voltage_v < lowest_v or self.max_voltage_v > highest_v:
            raise ValueError(
                f"min_voltage_v {self.min_voltage_v:g} to max_voltage_v {self.max_voltage_v:g} "
                f"exceeds {what}, {lowest_v:g} to {highest_v:g} V"
            )


def inward(voltage_v: float, resolution_v: float, limits: VoltageOptions) -> float:
    """Round to the resolution, but never over a limit."""
    steps = round(voltage_v / resolution_v)
    if steps * resolution_v > limits.max_voltage_v:
        steps -= 1
    if steps * resolution_v < limits.min_voltage_v:
        steps += 1
    return steps * resolution_v
