//! One node's API, as a program of its user would ask it.

use std::fs;
use std::io::{Read, Write};

use anyhow::{Context, Result, ensure};
use ureq::{Agent, SendBody};

use crate::bed::nodes::Cluster;

/// Where to ask; cheap to clone, and connections are kept.
#[derive(Debug, Clone)]
pub(super) struct Target {
    agent: Agent,
    base: String,
    token: String,
}

impl Target {
    /// Finds a node by its run record.
    pub(super) fn find(cluster: &Cluster, at: usize) -> Result<Self> {
        let port = u64::from(cluster.port(at)?);
        for entry in fs::read_dir(cluster.config_dir().join("run"))? {
            let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
            let Ok(record) = serde_json::from_str::<serde_json::Value>(&text) else { continue };
            let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
            if text("listen").rsplit(':').next().and_then(|port| port.parse().ok()) == Some(port) {
                let token = fs::read_to_string(text("token_file"))?.trim().to_owned();
                let config = Agent::config_builder().max_idle_connections_per_host(64).build();
                return Ok(Self { agent: config.into(), base: text("api"), token });
            }
        }
        anyhow::bail!("no run record of the node on :{port}")
    }

    pub(super) fn put(&self, path: &str, bytes: u64, source: &mut dyn Read) -> Result<()> {
        let url = format!("{}/v1/files/{path}", self.base);
        let request =
            self.agent.put(&url).header("Authorization", format!("Bearer {}", self.token));
        let mut source = source.take(bytes);
        let body = SendBody::from_reader(&mut source);
        let response = request.header("Content-Length", bytes.to_string()).send(body)?;
        ensure!(response.status() == 201, "PUT {path}: {}", response.status());
        // The connection is free again once the answer has been read.
        std::io::copy(&mut response.into_body().into_reader(), &mut std::io::sink())?;
        Ok(())
    }

    pub(super) fn delete(&self, what: &str) -> Result<()> {
        let url = format!("{}/v1/{what}", self.base);
        let request =
            self.agent.delete(&url).header("Authorization", format!("Bearer {}", self.token));
        let response = request.call().with_context(|| format!("DELETE {what}"))?;
        std::io::copy(&mut response.into_body().into_reader(), &mut std::io::sink())?;
        Ok(())
    }

    /// Fetches; returns how many bytes came.
    pub(super) fn get(&self, what: &str, out: &mut dyn Write) -> Result<u64> {
        let url = format!("{}/v1/{what}", self.base);
        let request =
            self.agent.get(&url).header("Authorization", format!("Bearer {}", self.token));
        let response = request.call().with_context(|| format!("GET {what}"))?;
        let mut source = response.into_body().into_reader();
        let (mut buffer, mut all) = (vec![0; BUFFER_BYTES], 0);
        loop {
            let read = source.read(&mut buffer)?;
            if read == 0 {
                return Ok(all);
            }
            out.write_all(&buffer[..read])?;
            all += read as u64;
        }
    }
}

const BUFFER_BYTES: usize = 256 * 1024;
