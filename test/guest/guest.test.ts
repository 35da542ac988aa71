/** A real guest whose disks are files in a folder. */
import { describe } from 'vitest';
import { requireGuestTools } from './guest.ts';
import { GuestPlace } from './guest-place.ts';
import { lifeOfAGuest } from './life-of-a-guest.ts';

describe.skipIf(requireGuestTools())('a guest on a linked clone', () => {
  lifeOfAGuest(GuestPlace.inFolder);
});
