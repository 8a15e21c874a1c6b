//! Answers of a member that knows the protocol and means harm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dfs_core::id::{AdminId, ClusterId, NodeId};
use dfs_core::layout::epoch::Grant;
use dfs_core::node::member::NodeInfo;
use dfs_env::{BoxFuture, Env};
use dfs_p2p::message::{Answer, Call, Code, Refusal, Request, Response};
use dfs_p2p::{Caller, Handler};
use ed25519_dalek::SigningKey;
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::attack::Attack;
use crate::lies;
use crate::seen::Seen;
use crate::vaults::own_cert;

/// Stands before an honest handler, and answers in its place what it likes, once it acts.
pub struct Adversary {
    env: Env,
    honest: Arc<dyn Handler>,
    shared: Arc<Shared>,
}

/// What is seen from outside of an adversary.
#[derive(Debug)]
pub struct Shared {
    attacks: Vec<Attack>,
    /// What it saw.
    pub seen: Arc<Seen>,
    acts: AtomicBool,
    /// Whether it only answers.
    only_answers: AtomicBool,
    done: Mutex<BTreeMap<Attack, u64>>,
}

impl Shared {
    /// Kinds of attacks, and nothing seen yet. Honest until it is told to act.
    pub fn new(attacks: Vec<Attack>) -> Self {
        let seen = Arc::default();
        let (acts, only_answers) = Default::default();
        Self { attacks, seen, acts, only_answers, done: Mutex::default() }
    }

    /// Begins to do harm, or ends it.
    pub fn set_acts(&self, acts: bool) {
        self.acts.store(acts, Ordering::Relaxed);
    }

    /// Whether it does harm.
    pub fn acts(&self) -> bool {
        self.acts.load(Ordering::Relaxed)
    }

    /// Does nothing of its own accord for a while, or goes on.
    pub fn set_only_answers(&self, only_answers: bool) {
        self.only_answers.store(only_answers, Ordering::Relaxed);
    }

    /// Whether it does harm of its own accord.
    pub fn asks(&self) -> bool {
        self.acts() && !self.only_answers.load(Ordering::Relaxed)
    }

    /// What it may do.
    pub fn attacks(&self) -> &[Attack] {
        &self.attacks
    }

    /// How often it did what.
    pub fn done(&self) -> BTreeMap<Attack, u64> {
        self.done.lock().clone()
    }

    /// Notes that it did something.
    pub fn note(&self, attack: Attack) {
        *self.done.lock().entry(attack).or_default() += 1;
    }
}

impl Adversary {
    /// One that answers in place of `honest`.
    pub fn new(env: Env, honest: Arc<dyn Handler>, shared: Arc<Shared>) -> Self {
        Self { env, honest, shared }
    }

    /// What to do about a request: nothing, in a part of all cases, or one of what there is.
    fn choose(&self, request: &Request) -> Option<Attack> {
        if !self.shared.acts() {
            return None;
        }
        let fit = self.shared.attacks.iter().filter(|attack| attack.answers(request));
        let fit: Vec<Attack> = fit.copied().collect();
        let luck = self.env.random_u64();
        let at = usize::try_from((luck >> 8).checked_rem(fit.len() as u64)?).ok()?;
        fit.get(at).copied().filter(|_| !luck.is_multiple_of(HONEST_ONE_OF))
    }

    async fn lie(&self, attack: Attack, from: Caller, call: Call) -> Answer {
        let (seen, luck) = (&self.shared.seen, self.env.random_u64());
        match attack {
            Attack::Silence => std::future::pending().await,
            Attack::Refusals => Answer::new(Err(lies::refusal(luck)), call.epoch),
            Attack::StaleEpochs => {
                let stale = Refusal::new(Code::StaleEpoch, "the partition has moved");
                // Whoever believes in a later one asks for it first, and hears this late.
                let epoch = [call.epoch, call.epoch.saturating_add(1), u64::MAX];
                let epoch = epoch[usize::try_from(luck % 3).unwrap_or_default()];
                Answer::new(Err(stale), epoch)
            }
            Attack::FalseAcks => lies::false_ack(&call),
            Attack::MadeUpVaults => {
                Answer::new(Ok(Response::Cert(Box::new(own_cert()))), call.epoch)
            }
            Attack::FalseEvidence => lies::false_evidence(&call),
            Attack::FalseBallots => lies::false_ballot(&call, seen, luck),
            _ => {
                let request = call.request.clone();
                let mut answer = self.honest.handle(from, call).await;
                self.shared.seen.note_answer(&request, &answer);
                match (attack, &request) {
                    (Attack::WrongBytes, _) => lies::wrong_bytes(&mut answer, luck),
                    (Attack::OtherBlob, Request::ChunkGet(id)) => {
                        lies::other_blob(&mut answer, id, seen, luck);
                    }
                    (Attack::OldRecords, _) => {
                        lies::old_records(&mut answer, &request, seen, luck);
                    }
                    (Attack::ForgedRecords, _) => lies::forged_records(&mut answer, seen, luck),
                    (Attack::FalseRows, _) => lies::false_rows(&mut answer, &request, luck),
                    (Attack::HighBallots, _) => {
                        let made_up = SigningKey::from_bytes(&self.env.random());
                        lies::high_ballot(&mut answer, &made_up);
                    }
                    _ => {}
                }
                answer
            }
        }
    }
}

impl Handler for Adversary {
    fn handle(&self, from: Caller, call: Call) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            self.shared.seen.note_call(&call);
            if let Some(attack) = self.choose(&call.request) {
                self.shared.note(attack);
                return self.lie(attack, from, call).await;
            }
            let request = call.request.clone();
            let answer = self.honest.handle(from, call).await;
            self.shared.seen.note_answer(&request, &answer);
            answer
        })
    }

    fn is_member(&self, node: &NodeId) -> bool {
        self.honest.is_member(node)
    }

    fn cluster_id(&self) -> Option<ClusterId> {
        self.honest.cluster_id()
    }

    fn invite_secret(&self, grant: &Grant) -> Option<Zeroizing<[u8; 32]>> {
        self.honest.invite_secret(grant)
    }

    fn is_admin(&self, admin: &AdminId) -> bool {
        self.honest.is_admin(admin)
    }

    fn keys_due(&self, grant: Option<&Grant>) -> Zeroizing<Vec<u8>> {
        self.honest.keys_due(grant)
    }

    fn peer_changed(&self, node: NodeId, connected: bool) {
        self.honest.peer_changed(node, connected);
    }

    fn retired(&self, why: &str) {
        self.honest.retired(why);
    }

    fn info_changed(&self, info: &NodeInfo) {
        self.honest.info_changed(info);
    }
}

impl std::fmt::Debug for Adversary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Adversary").field(&self.shared).finish()
    }
}

/// It answers honestly once in so many times: who never does is soon out of all use.
const HONEST_ONE_OF: u64 = 3;
