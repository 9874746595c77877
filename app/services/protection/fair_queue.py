"""Who hashes next, and who has no place. No threads, no event loop, no time."""

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from math import lcm
from typing import Final, Generic, TypeVar

from app.services.protection.turns import Lane, Turn

WEIGHTS: Final = {Lane.SIGNED_IN: 1, Lane.LOGIN: 2, Lane.REGISTRATION: 1}
KNOWN_IN_A_ROW: Final = 7
"""So many known devices are taken before an unknown one that waits."""

T = TypeVar("T", bound=Hashable)


class _Rotation(Generic[T]):
    """Takes from each network in turn, and from a network the item that has waited longest."""

    def __init__(self) -> None:
        self._networks: OrderedDict[str, dict[T, None]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def waiting(self, network: str) -> int:
        return len(self._networks.get(network, ()))

    def busiest(self) -> str:
        return max(self._networks, key=self.waiting)

    def append(self, item: T, network: str) -> None:
        self._networks.setdefault(network, {})[item] = None
        self._size += 1

    def pop(self) -> T:
        network = next(iter(self._networks))
        item = next(iter(self._networks[network]))
        self.remove(item, network)
        if network in self._networks:
            self._networks.move_to_end(network)
        return item

    def youngest_of(self, network: str) -> T:
        return next(reversed(self._networks[network]))

    def remove(self, item: T, network: str) -> None:
        del self._networks[network][item]
        self._size -= 1
        if not self._networks[network]:
            del self._networks[network]


class _Lane(Generic[T]):
    """Known devices first; the unknown ones keep one in eight of the places and of the hashes."""

    def __init__(self, places: int, stride: int) -> None:
        self.places = places
        self.stride = stride
        self.due = 0
        self.known: _Rotation[T] = _Rotation()
        self.unknown: _Rotation[T] = _Rotation()
        self._unknown_places = max(1, places // (KNOWN_IN_A_ROW + 1))
        self._known_in_a_row = 0

    def __len__(self) -> int:
        return len(self.known) + len(self.unknown)

    def rotation(self, turn: Turn) -> _Rotation[T]:
        return self.known if turn.known_device else self.unknown

    def pop(self) -> T:
        if not self.unknown:
            self._known_in_a_row = 0
            return self.known.pop()
        if self.known and self._known_in_a_row < KNOWN_IN_A_ROW:
            self._known_in_a_row += 1
            return self.known.pop()
        self._known_in_a_row = 0
        return self.unknown.pop()

    def expendable(self) -> T:
        """The one that makes room for another lane."""
        crowded = self.unknown if self._has_too_many_unknown() or not self.known else self.known
        return crowded.youngest_of(crowded.busiest())

    def expendable_for(self, turn: Turn) -> T | None:
        """The one that makes room for a newcomer of this lane, if anyone does."""
        if turn.known_device and self._has_too_many_unknown():
            return self.unknown.youngest_of(self.unknown.busiest())
        if not turn.known_device and self.known and len(self.unknown) < self._unknown_places:
            return self.known.youngest_of(self.known.busiest())
        rotation = self.rotation(turn)
        if not rotation:
            return None
        busiest = rotation.busiest()
        if rotation.waiting(busiest) <= rotation.waiting(turn.network) + 1:
            return None
        return rotation.youngest_of(busiest)

    def _has_too_many_unknown(self) -> bool:
        return len(self.unknown) > self._unknown_places


class FairQueue(Generic[T]):
    """Lanes by weight; in a lane known devices first; among them one network after the other.

    A full queue gives each lane its share of the places, and within a lane takes a place from the network
    that has most of them.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._turns: dict[T, Turn] = {}
        all_weights, unit = sum(WEIGHTS.values()), lcm(*WEIGHTS.values())
        self._lanes: dict[Lane, _Lane[T]] = {
            lane: _Lane(limit * weight // all_weights, unit // weight) for lane, weight in WEIGHTS.items()
        }
        self._now = 0  # in strides: what the lane that was last taken from was due

    def __len__(self) -> int:
        return len(self._turns)

    def lengths(self) -> Mapping[Lane, int]:
        return {name: len(lane) for name, lane in self._lanes.items()}

    def put(self, item: T, turn: Turn) -> T | None:
        """The item that has no place any more: one that waited, or the new one."""
        displaced = None
        if len(self) >= self.limit:
            displaced = self._expendable_for(turn)
            if displaced is None:
                return item
            self.remove(displaced)
        lane = self._lanes[turn.lane]
        if not lane:
            lane.due = max(lane.due, self._now + lane.stride)
        lane.rotation(turn).append(item, turn.network)
        self._turns[item] = turn
        return displaced

    def pop(self) -> T | None:
        """The next one, if anyone waits."""
        if not self._turns:
            return None
        lane = min((lane for lane in self._lanes.values() if lane), key=lambda lane: lane.due)
        self._now = lane.due
        lane.due += lane.stride
        item = lane.pop()
        del self._turns[item]
        return item

    def remove(self, item: T) -> None:
        """The item must wait."""
        turn = self._turns.pop(item)
        self._lanes[turn.lane].rotation(turn).remove(item, turn.network)

    def _expendable_for(self, turn: Turn) -> T | None:
        lane = self._lanes[turn.lane]
        if len(lane) < lane.places:
            return max(self._lanes.values(), key=lambda each: len(each) - each.places).expendable()
        return lane.expendable_for(turn)
