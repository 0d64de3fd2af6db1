//! Random bytes, for tokens and nonces.

/// `N` random bytes.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    for chunk in bytes.chunks_mut(8) {
        // A version-4 UUID fixes six of its first 80 bits; the last eight bytes hold 62 random ones.
        chunk.copy_from_slice(&uuid::Uuid::new_v4().as_bytes()[16 - chunk.len()..]);
    }
    bytes
}
