//! Tasks by key: at most one for each.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::task::JoinError;

use crate::Env;

/// Running tasks, each known by a key. Dropping the map ends them.
pub struct TaskMap<K, T> {
    env: Env,
    name: &'static str,
    running: FuturesUnordered<BoxFuture<'static, (K, Result<T, JoinError>)>>,
    keys: BTreeSet<K>,
}

impl<K, T> TaskMap<K, T>
where
    K: Ord + Clone + Send + 'static,
    T: Send + 'static,
{
    /// An empty map; its tasks will all have this name.
    pub fn new(env: &Env, name: &'static str) -> Self {
        Self { env: env.clone(), name, running: FuturesUnordered::new(), keys: BTreeSet::new() }
    }

    /// Starts a task, unless there is one with this key: then `future` is dropped unpolled.
    /// Returns whether it was started.
    pub fn spawn<F>(&mut self, key: K, future: F) -> bool
    where
        F: Future<Output = T> + Send + 'static,
    {
        if !self.keys.insert(key.clone()) {
            return false;
        }
        let task = self.env.spawn(self.name, future);
        self.running.push(Box::pin(async move { (key, task.await) }));
        true
    }

    /// Whether there is a task with this key that [`TaskMap::join_next`] has not returned.
    pub fn contains(&self, key: &K) -> bool {
        self.keys.contains(key)
    }

    /// The keys of all such tasks.
    pub fn keys(&self) -> &BTreeSet<K> {
        &self.keys
    }

    /// How many tasks there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Waits for one of the tasks to end. Returns its key, and an error when it panicked; `None`
    /// when there are no tasks.
    ///
    /// # Cancel safety
    /// No result is lost when the future is dropped.
    pub async fn join_next(&mut self) -> Option<(K, Result<T, JoinError>)> {
        let (key, ended) = self.running.next().await?;
        self.keys.remove(&key);
        Some((key, ended))
    }
}

impl<K: fmt::Debug, T> fmt::Debug for TaskMap<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TaskMap");
        shown.field("name", &self.name).field("keys", &self.keys).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;

    use super::*;
    use crate::MemoryNet;

    fn map() -> TaskMap<u8, u32> {
        TaskMap::new(&Env::in_memory(1, MemoryNet::default()), "test")
    }

    #[tokio::test]
    async fn a_key_is_busy_until_its_result_is_taken() {
        let mut tasks = map();
        assert!(tasks.join_next().await.is_none());
        assert!(tasks.spawn(1, async { 10 }));
        assert!(tasks.spawn(2, pending()));
        assert!(!tasks.spawn(1, async { 11 }));
        assert_eq!(tasks.len(), 2);
        let (key, ended) = tasks.join_next().await.unwrap();
        assert_eq!((key, ended.unwrap()), (1, 10));
        assert!(!tasks.contains(&1) && tasks.contains(&2));
        assert!(tasks.spawn(1, async { 11 }));
        assert_eq!(tasks.join_next().await.unwrap().1.unwrap(), 11);
    }

    #[tokio::test]
    async fn a_task_that_panics_comes_back_with_its_key() {
        let mut tasks = map();
        tasks.spawn(1, async { panic!("a mistake") });
        let (key, ended) = tasks.join_next().await.unwrap();
        assert!(key == 1 && ended.unwrap_err().is_panic());
        assert!(tasks.is_empty());
    }

    #[tokio::test]
    async fn dropping_the_map_ends_its_tasks() {
        let mut tasks = map();
        let held = Arc::new(());
        let holds = held.clone();
        tasks.spawn(1, async move {
            pending::<()>().await;
            drop(holds);
            0
        });
        drop(tasks);
        while Arc::strong_count(&held) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
