//! What a node is asked for, and what came of it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::random::{Random, content};
use super::requests::{Answer, Requests};

/// Asks nodes; the contents it stores follow from the seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    requests: &'a Requests,
    seed: u64,
}

/// What a write said.
#[derive(Debug, Clone)]
pub(crate) struct Wrote {
    pub(crate) code: i32,
    /// The version that was stored, when it was.
    pub(crate) version: Option<String>,
    pub(crate) stderr: String,
}

impl<'a> Asker<'a> {
    pub(crate) fn new(requests: &'a Requests, seed: u64) -> Self {
        Self { requests, seed }
    }

    pub(crate) fn requests(&self) -> &'a Requests {
        self.requests
    }

    pub(crate) fn ask(&self, at: usize, args: &[&str]) -> Result<Answer> {
        self.requests.ask(at, args, None)
    }

    /// Asks for what must succeed.
    pub(crate) fn must(&self, at: usize, args: &[&str]) -> Result<Vec<u8>> {
        let answer = self.ask(at, args)?;
        let (code, why, node, args) = (answer.code, &answer.stderr, at + 1, args.join(" "));
        ensure!(code == 0, "'dfs {args}' on node {node} ended with exit {code}: {why}");
        Ok(answer.stdout)
    }

    /// What is stored under a name in one generation: with few exceptions its length is that of a
    /// small file, kept in the record, or of one with a chunk of its own.
    pub(crate) fn content(&self, name: &str, generation: u32) -> Vec<u8> {
        let mut random = Random::of(self.seed, &format!("{name} {generation} bytes"));
        let bytes = match random.below(10) {
            0..5 => random.within(10..=16_000),
            5..9 => random.within(17_000..=200_000),
            _ => random.within(1_000_000..=2_500_000),
        };
        content(self.seed, name, generation, bytes)
    }

    /// Stores one generation of a name.
    pub(crate) fn put(
        &self,
        at: usize,
        name: &str,
        generation: u32,
        options: &[&str],
    ) -> Result<Wrote> {
        let args = [&["put", "--json"], options, &["-", name]].concat();
        let answer = self.requests.ask(at, &args, Some(&self.content(name, generation)))?;
        let version = match answer.is_ok() {
            true => Some(version_of(&answer.stdout)?),
            false => None,
        };
        Ok(Wrote { code: answer.code, version, stderr: answer.stderr })
    }

    /// Stores one generation of a name where nothing stands in the way.
    pub(crate) fn must_put(&self, at: usize, name: &str, generation: u32) -> Result<String> {
        let wrote = self.put(at, name, generation, &[])?;
        let (code, why, node) = (wrote.code, &wrote.stderr, at + 1);
        wrote.version.with_context(|| format!("put {name} on node {node}: exit {code}: {why}"))
    }

    /// All names and their versions, as one node lists them.
    pub(crate) fn list(&self, at: usize) -> Result<BTreeMap<String, String>> {
        let answer = self.ask(at, &["ls", "-r", "--json"])?;
        let (code, why) = (answer.code, &answer.stderr);
        ensure!([0, 4].contains(&code), "'dfs ls' on node {} gives exit {code}: {why}", at + 1);
        let entries = objects(&answer.stdout)?;
        entries.iter().map(|entry| Ok((text(entry, "path")?, text(entry, "version")?))).collect()
    }

    /// The names with several versions and those versions, in order, as one node knows them.
    pub(crate) fn conflicts(&self, at: usize) -> Result<BTreeMap<String, Vec<String>>> {
        let found = objects(&self.must(at, &["conflicts", "--json"])?)?;
        let versions = |one: &Value| {
            let Some(versions) = one["versions"].as_array() else { bail!("no versions: {one}") };
            versions.iter().map(|version| text(version, "version")).collect::<Result<Vec<_>>>()
        };
        found.iter().map(|one| Ok((text(one, "path")?, versions(one)?))).collect()
    }

    /// The versions of a name that can still be had.
    pub(crate) fn log(&self, at: usize, name: &str) -> Result<Vec<String>> {
        let lines = objects(&self.must(at, &["log", "--json", name])?)?;
        lines.iter().map(|line| text(line, "version")).collect()
    }
}

/// The version that a write with `--json` tells of.
pub(crate) fn version_of(stdout: &[u8]) -> Result<String> {
    let stored = objects(stdout)?;
    text(stored.first().context("a write says what it stored")?, "version")
}

fn objects(lines: &[u8]) -> Result<Vec<Value>> {
    let lines = serde_json::Deserializer::from_slice(lines).into_iter();
    Ok(lines.collect::<Result<_, _>>()?)
}

fn text(object: &Value, field: &str) -> Result<String> {
    let text = object[field].as_str().with_context(|| format!("no {field} in {object}"))?;
    Ok(text.to_owned())
}
