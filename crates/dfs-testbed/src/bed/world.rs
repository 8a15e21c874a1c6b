//! A cluster and what is done to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::mesh::Mesh;
use super::nodes::Cluster;
use super::requests::Requests;
use super::small_disk::SmallDisk;

/// The cluster and what is done to it. Dropped in this order: nodes, what is between them, disk.
pub(crate) struct World<'a> {
    pub(crate) cluster: Cluster,
    pub(crate) mesh: Option<Mesh>,
    pub(crate) disk: Option<SmallDisk>,
    pub(crate) requests: &'a Requests,
    pub(crate) nodes: usize,
    /// Whether somebody wants us to stop.
    pub(crate) interrupted: Arc<AtomicBool>,
}

impl World<'_> {
    pub(crate) fn mesh(&self) -> Result<&Mesh> {
        self.mesh.as_ref().context("a fault of the network needs one between the nodes")
    }

    pub(crate) fn disk(&self) -> Result<&SmallDisk> {
        self.disk.as_ref().context("a full disk needs a small one")
    }

    /// Undoes what is done to the network.
    pub(crate) fn heal(&self) {
        if let Some(mesh) = &self.mesh {
            mesh.heal();
        }
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// Somebody wants us to stop.
    pub(crate) fn pause(&self, length: Duration) -> Result<()> {
        let until = Instant::now() + length;
        loop {
            ensure!(!self.interrupted.load(Ordering::Relaxed), "interrupted");
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(50);
