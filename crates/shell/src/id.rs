//! Random ids for requests and traces, cheap enough to make one for each request.

use std::cell::RefCell;

/// Bytes fetched from the system at once.
const POOL_BYTES: usize = 4096;

thread_local! {
    static POOL: RefCell<(Vec<u8>, usize)> = const { RefCell::new((Vec::new(), 0)) };
}

/// Sixty-four random bits. Not for keys: see [`crate::secret::Secret::generate`].
pub fn random_u64() -> u64 {
    POOL.with_borrow_mut(|(pool, used)| {
        if *used + 8 > pool.len() {
            pool.resize(POOL_BYTES, 0);
            // Ids need to differ, not to be secret: without randomness, old bytes are mixed on.
            if getrandom::fill(pool).is_err() {
                pool.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(167).wrapping_add(13));
            }
            *used = 0;
        }
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&pool[*used..*used + 8]);
        *used += 8;
        u64::from_le_bytes(bytes)
    })
}

/// A request id: `req-` and 32 hexadecimal digits.
pub fn request_id() -> String {
    format!("req-{:016x}{:016x}", random_u64(), random_u64())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_differ() {
        let ids: HashSet<String> = (0..2000).map(|_| request_id()).collect();
        assert_eq!(ids.len(), 2000);
    }
}
