//! `/metrics`: what the status, the repair and the scrub say, as gauges, beside the counters.

use std::sync::Arc;

use axum::extract::State;
use dfs_server::health::Health;
use dfs_server::{ScrubState, ScrubView};
use dfs_store::{DiskView, Shortage};

use super::errors::Problem;
use super::shared::Shared;

pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Result<String, Problem> {
    let health = shared.client.health().await?;
    status_gauges(&health);
    gauge("dfs_cluster_quorum", u64::from(shared.client.not_ready().is_empty()));
    scrub_gauges(&shared.client.scrub());
    metrics::gauge!("dfs_clock_ahead_seconds").set(seconds(health.clock_ahead_ms));
    disk_gauges(&shared.client.disk());
    for peer in shared.client.peers() {
        if peer.is_self {
            gauge("dfs_chunk_bytes_stored", peer.bytes);
            gauge("dfs_capacity_bytes", peer.capacity);
        } else {
            let ahead = seconds(peer.clock_ahead_ms);
            metrics::gauge!("dfs_peer_clock_ahead_seconds", "peer" => peer.id).set(ahead);
        }
    }
    metrics::gauge!("dfs_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(shared.metrics.render())
}

#[allow(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn gauge(name: &'static str, value: u64) {
    metrics::gauge!(name).set(value as f64);
}

/// What is not known is no number.
#[allow(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn seconds(ms: Option<i64>) -> f64 {
    ms.map_or(f64::NAN, |ms| ms as f64 / 1000.0)
}

fn status_gauges(health: &Health) {
    gauge("dfs_members", health.nodes as u64);
    gauge("dfs_members_draining", health.drains.len() as u64);
    gauge("dfs_members_alive", health.alive as u64);
    gauge("dfs_layout_epoch", health.epoch);
    gauge("dfs_partitions_moving", health.moving as u64);
    gauge("dfs_files", health.files);
    gauge("dfs_file_bytes", health.bytes);
    gauge("dfs_chunks_under_replicated", health.under_replicated);
    gauge("dfs_chunks_unrecoverable", health.unrecoverable);
    gauge("dfs_repair_queue_chunks", health.repair_queue);
    gauge("dfs_conflicts", health.conflicts);
    let distrusted = health.doubts.iter().filter(|doubt| doubt.distrusted).count();
    gauge("dfs_members_distrusted", distrusted as u64);
    gauge("dfs_members_behind", (health.doubts.len() - distrusted) as u64);
    gauge("dfs_next_failure_cost", health.next_failure.cost as u64);
    gauge("dfs_unreadable_pieces", health.unreadable);
    gauge("dfs_repair_paused", u64::from(health.repair_paused));
    let copying = health.copying;
    gauge("dfs_repair_missing_chunks", copying.map_or(0, |copying| copying.pieces));
    gauge("dfs_repair_bytes_left", copying.and_then(|copying| copying.bytes).unwrap_or(0));
    gauge("dfs_repair_bytes_per_second", copying.map_or(0, |copying| copying.bytes_per_second));
    gauge("dfs_repair_seconds_left", copying.and_then(|copying| copying.seconds).unwrap_or(0));
}

fn disk_gauges(disk: &DiskView) {
    gauge("dfs_disk_bytes", disk.space.total);
    gauge("dfs_disk_free_bytes", disk.space.free);
    gauge("dfs_disk_files", disk.space.files_total);
    gauge("dfs_disk_free_files", disk.space.files_free);
    for (reason, shortage) in
        [("offer", Shortage::Offer), ("bytes", Shortage::Bytes), ("files", Shortage::Files)]
    {
        let is_full = u8::from(disk.shortage == Some(shortage));
        metrics::gauge!("dfs_disk_full", "reason" => reason).set(f64::from(is_full));
    }
    gauge("dfs_disk_refuses", u64::from(disk.refuses.is_some()));
    gauge("dfs_disk_failed", u64::from(disk.failed.is_some()));
}

fn scrub_gauges(view: &ScrubView) {
    metrics::gauge!("dfs_scrub_progress_ratio").set(f64::from(view.permille) / 1000.0);
    gauge("dfs_scrub_running", u64::from(view.state == ScrubState::Running));
    gauge("dfs_scrub_paused", u64::from(view.state == ScrubState::Paused));
    gauge("dfs_scrub_verified_bytes", view.bytes_verified);
    gauge("dfs_scrub_bad_chunks", view.bad);
    gauge("dfs_scrub_unread_chunks", view.unread);
    gauge("dfs_scrub_damaged_rows", view.rows_damaged);
    gauge("dfs_scrub_bytes_per_second", view.bytes_per_second);
    if let Some(ended) = view.last_complete_ms {
        gauge("dfs_scrub_last_complete_timestamp_seconds", ended / 1000);
    }
}
