use std::sync::mpsc::channel;

use super::*;

#[test]
fn those_who_wait_for_the_store_take_no_threads() {
    let directory = tempfile::tempdir().unwrap();
    // On one thread, so that a task that was spawned has come to where it waits when this one goes on.
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(2).enable_all().build();
    runtime.unwrap().block_on(async {
        let accounts = Arc::new(Accounts::open(None, directory.path(), Duration::ZERO).unwrap());
        let (begun, begins) = tokio::sync::oneshot::channel();
        let (release, released) = channel::<()>();
        let first = {
            let accounts = accounts.clone();
            tokio::spawn(async move {
                let work = move |_: &mut Store| {
                    let _ = begun.send(());
                    let _ = released.recv();
                    Ok(())
                };
                accounts.with_store(work).await
            })
        };
        begins.await.unwrap();
        let others: Vec<_> = (0..4)
            .map(|_| {
                let accounts = accounts.clone();
                tokio::spawn(
                    async move { accounts.with_store(|store| store.logins().map(|all| all.len())).await },
                )
            })
            .collect();
        // They all come to where they wait.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let other_work = tokio::time::timeout(Duration::from_secs(5), tokio::task::spawn_blocking(|| ()));
        assert!(other_work.await.is_ok(), "no thread is left");
        release.send(()).unwrap();
        first.await.unwrap().unwrap();
        for other in others {
            assert_eq!(other.await.unwrap().unwrap(), 0);
        }
    });
}

#[tokio::test]
async fn another_look_tells_what_is_new_and_only_that() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    htpasswd::set(&path, "alice", "elephant").unwrap();
    let every = Duration::from_secs(3600);
    let accounts = Arc::new(Accounts::open(Some(path.clone()), directory.path(), every).unwrap());
    let known = accounts.known().await;
    assert!(accounts.newer(&known).await.is_none());
    htpasswd::set(&path, "bob", "mouse").unwrap();
    // It isn't time for a look; who would be refused has one nevertheless.
    assert!(accounts.known().await.users.get("bob").is_none());
    let newer = accounts.newer(&known).await.expect("news");
    assert!(newer.users.get("bob").is_some() && known.users.get("bob").is_none());
    Store::open(directory.path()).unwrap().rotate_keys(now_s(), false).unwrap();
    assert!(accounts.newer(&newer).await.is_some());
}
