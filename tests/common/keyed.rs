//! Payloads that tell whose they are, and numbers that repeat.

/// Bytes that only this item of this call has.
pub fn item(id: u64, at: u64, len: usize) -> Vec<u8> {
    let len = len >> (at % 5 * 2);
    let mut bytes = Vec::with_capacity(len + 8);
    let mut seed = mix(id ^ mix(at));
    while bytes.len() <= len {
        seed = mix(seed);
        bytes.extend_from_slice(&seed.to_le_bytes());
    }
    bytes
}

/// Whether these are, from first to last, the bytes of a call's request.
pub fn is_whole(id: u64, bytes: &[u8]) -> bool {
    bytes.len().checked_sub(8).is_some_and(|len| bytes == item(id, 0, len))
}

/// What only a call's own request can give.
pub fn keyed(id: u64, bytes: &[u8]) -> i64 {
    bytes.iter().fold(mix(id), |hash, byte| mix(hash ^ u64::from(*byte))) as i64
}

pub fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Numbers that repeat with their seed.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = mix(self.0);
        self.0 % n
    }
}
