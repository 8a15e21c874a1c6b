//! Connections that have not greeted yet: how many there may be.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Counts connections that have not greeted yet, in all and by source.
pub(crate) struct HalfOpen {
    all: Arc<Semaphore>,
    by_ip: Mutex<BTreeMap<IpAddr, usize>>,
}

impl Default for HalfOpen {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(HALF_OPEN_MAX)), by_ip: Mutex::default() }
    }
}

pub(crate) struct HalfOpenSlot {
    counts: Arc<HalfOpen>,
    ip: IpAddr,
    _all: OwnedSemaphorePermit,
}

impl HalfOpen {
    pub(crate) fn take(self: &Arc<Self>, ip: IpAddr) -> Option<HalfOpenSlot> {
        let all = self.all.clone().try_acquire_owned().ok()?;
        let mut by_ip = self.by_ip.lock();
        let count = by_ip.entry(ip).or_default();
        if *count >= HALF_OPEN_PER_IP_MAX {
            return None;
        }
        *count += 1;
        drop(by_ip);
        Some(HalfOpenSlot { counts: self.clone(), ip, _all: all })
    }
}

impl Drop for HalfOpenSlot {
    fn drop(&mut self) {
        let mut by_ip = self.counts.by_ip.lock();
        if let Some(count) = by_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                by_ip.remove(&self.ip);
            }
        }
    }
}

/// Connections that have not greeted yet: a flood of them costs this much memory and no more.
const HALF_OPEN_MAX: usize = 256;
/// The same from one address, so that one host cannot use up all of them.
const HALF_OPEN_PER_IP_MAX: usize = 64;
