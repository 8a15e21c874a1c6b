//! After a fault: every node still runs, and says within a bound that all is well.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::world::World;

impl World<'_> {
    /// Waits until every node says that all is well; gives how long that took.
    ///
    /// # Errors
    /// A node ended or panicked, or is not well in time.
    pub(crate) fn settle(&mut self, limit: Duration) -> Result<Duration> {
        let started = Instant::now();
        for at in 0..self.nodes {
            loop {
                self.check_running()?;
                let Some(why) = self.unwell(at)? else { break };
                let node = at + 1;
                ensure!(started.elapsed() < limit, "node {node} is not well in {limit:?}: {why}");
                self.pause(ASK_EVERY)?;
            }
        }
        let took = started.elapsed();
        self.check_logs()?;
        Ok(took)
    }

    fn check_running(&mut self) -> Result<()> {
        for at in 0..self.nodes {
            if let Some(status) = self.cluster.ended(at)? {
                bail!("node {} ended by itself with {status}", at + 1);
            }
        }
        Ok(())
    }

    /// Why a node is not well, in its own words.
    fn unwell(&self, at: usize) -> Result<Option<String>> {
        let answer = self.requests.ask(at, &["status", "--json"], None)?;
        if !answer.is_ok() {
            return Ok(Some(format!("exit {}: {}", answer.code, answer.stderr)));
        }
        let status: serde_json::Value = serde_json::from_slice(&answer.stdout)?;
        let is_well = status["health"] == "ok" && status["nodes"] == self.nodes;
        Ok((!is_well).then(|| status.to_string()))
    }

    /// A task that panicked may take nothing with it that shows at once.
    fn check_logs(&self) -> Result<()> {
        for at in 0..self.nodes {
            let path = self.cluster.log(at)?;
            let log = fs::read(&path)?;
            let log = String::from_utf8_lossy(&log);
            let panic = log.lines().find(|line| line.contains("panicked at"));
            if let Some(line) = panic {
                bail!("node {} panicked, see {}: {line}", at + 1, path.display());
            }
        }
        Ok(())
    }
}

/// A node compares itself with the others for each answer.
const ASK_EVERY: Duration = Duration::from_millis(250);
