//! How a gateway's challenges are kept on its disk.

use super::{Account, BREACHES_MAX, Cover, LACKING_MAX, Lacking, Possession, Silent};
use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::id::{BlobId, NodeId};
use crate::layout::epoch::MEMBERS_MAX;
use crate::record::refs::Use;

impl Canonical for Possession {
    fn encode(&self, out: &mut Writer) {
        out.u8(FORMAT);
        out.u64(self.cover.began_ms);
        out.u64(self.cover.due_ms);
        option(out, self.cover.after.as_ref());
        out.count(self.accounts.len());
        for (node, account) in &self.accounts {
            node.encode(out);
            account.encode(out);
        }
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        match input.u8()? {
            FORMAT => {}
            other => return Err(DecodeError::UnknownVersion(other)),
        }
        let (began_ms, due_ms) = (input.u64()?, input.u64()?);
        let cover = Cover { began_ms, due_ms, after: optional::<BlobId>(input)? };
        let mut possession = Self { cover, ..Self::default() };
        for _ in 0..at_most(input, "accounts", MEMBERS_MAX)? {
            let node = NodeId::decode(input)?;
            let is_next = possession.accounts.last_key_value().is_none_or(|(last, _)| *last < node);
            if !is_next {
                return Err(DecodeError::Invalid("account"));
            }
            possession.accounts.insert(node, Account::decode(input)?);
        }
        Ok(possession)
    }
}

impl Canonical for Account {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.asked);
        out.u64(self.proved);
        moment(out, self.last_ms);
        out.list(&self.lacking);
        moment(out, self.silent.map(|silent| silent.since_ms));
        out.u8(self.silent.map_or(0, |silent| silent.askings));
        out.list(&self.breaches);
        moment(out, self.distrusted_ms);
        out.u64(self.due_ms);
        out.u8(u8::from(self.drained));
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let (asked, proved, last_ms) = (input.u64()?, input.u64()?, optional_moment(input)?);
        let mut lacking = Vec::new();
        for _ in 0..at_most(input, "lacking", LACKING_MAX)? {
            lacking.push(Lacking::decode(input)?);
        }
        let (since_ms, askings) = (optional_moment(input)?, input.u8()?);
        let silent = match (since_ms, askings) {
            (None, 0) => None,
            (Some(since_ms), 1..) => Some(Silent { since_ms, askings }),
            _ => return Err(DecodeError::Invalid("silence")),
        };
        let mut breaches = Vec::new();
        for _ in 0..at_most(input, "breaches", BREACHES_MAX)? {
            breaches.push(BlobId::decode(input)?);
        }
        let distrusted_ms = optional_moment(input)?;
        let (due_ms, drained) = (input.u64()?, flag(input)?);
        Ok(Self {
            asked,
            proved,
            last_ms,
            lacking,
            silent,
            breaches,
            distrusted_ms,
            due_ms,
            drained,
        })
    }
}

impl Canonical for Lacking {
    fn encode(&self, out: &mut Writer) {
        self.of.encode(out);
        out.u64(self.since_ms);
        out.u64(self.again_ms);
        out.u8(self.askings);
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let (of, since_ms) = (Use::decode(input)?, input.u64()?);
        Ok(Self { of, since_ms, again_ms: input.u64()?, askings: input.u8()? })
    }
}

fn at_most(input: &mut Reader, name: &'static str, max: usize) -> Result<usize, DecodeError> {
    let count = usize::try_from(input.u32()?).unwrap_or(usize::MAX);
    if count > max { Err(DecodeError::TooLong(name)) } else { Ok(count) }
}

fn option<T: Canonical>(out: &mut Writer, value: Option<&T>) {
    out.u8(u8::from(value.is_some()));
    if let Some(value) = value {
        value.encode(out);
    }
}

fn optional<T: Canonical>(input: &mut Reader) -> Result<Option<T>, DecodeError> {
    if flag(input)? { Ok(Some(T::decode(input)?)) } else { Ok(None) }
}

fn moment(out: &mut Writer, value: Option<u64>) {
    out.u8(u8::from(value.is_some()));
    if let Some(value) = value {
        out.u64(value);
    }
}

fn optional_moment(input: &mut Reader) -> Result<Option<u64>, DecodeError> {
    if flag(input)? { Ok(Some(input.u64()?)) } else { Ok(None) }
}

fn flag(input: &mut Reader) -> Result<bool, DecodeError> {
    match input.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Invalid("flag")),
    }
}

const FORMAT: u8 = 1;
