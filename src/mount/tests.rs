use super::*;

/// Tests that mount need root and the device; elsewhere they pass without having tried.
fn can_mount() -> bool {
    sys::uid() == 0 && open_device().is_ok()
}

#[test]
fn a_mount_is_found_named_and_ended() {
    if !can_mount() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (device, mountpoint) = match attach(dir.path(), true) {
        Ok(both) => both,
        Err(MountError::NotPermitted(_)) => return,
        Err(error) => panic!("{error}"),
    };
    let mounted =
        at(mountpoint.path()).expect("the table is readable").expect("it is in the table");
    assert!(mounted.is_ours());
    assert_eq!(mounted.pid(), Some(std::process::id()));
    assert!(mountpoint.is_attached());

    // Closing the device ends the connection, as the death of the daemon does.
    drop(device);
    assert_eq!(standing(mountpoint.path()).ok(), Some(Standing::Dead));

    // A predecessor that was killed detaches nothing.
    std::mem::forget(mountpoint);
    let (_device, second) = attach(dir.path(), true).expect("replaces the dead one");
    assert!(second.is_attached());
    let detached = second.detach(3).expect("is ours");
    assert_eq!((detached.lazily, detached.holders), (false, 0));
    assert!(!second.is_attached());
    drop(second);
    assert_eq!(standing(dir.path()).ok(), Some(Standing::Free));
}

#[test]
fn a_mount_without_an_answer_is_alive() {
    if !can_mount() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (device, mountpoint) = match attach(dir.path(), true) {
        Ok(both) => both,
        Err(MountError::NotPermitted(_)) => return,
        Err(error) => panic!("{error}"),
    };
    let error = attach(dir.path(), true).expect_err("is taken");
    let pid = format!("pid {}", std::process::id());
    assert!(error.to_string().contains(&pid), "{error}");
    drop(device);
    drop(mountpoint);
}

#[test]
fn a_mount_in_use_is_detached_lazily() {
    use std::os::unix::fs::OpenOptionsExt as _;
    if !can_mount() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (device, mountpoint) = match attach(dir.path(), true) {
        Ok(both) => both,
        Err(MountError::NotPermitted(_)) => return,
        Err(error) => panic!("{error}"),
    };
    // Holds the mount without asking its daemon, of which there is none.
    let holder = std::fs::File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(dir.path())
        .expect("opens without a request");
    let busy = unmount(dir.path(), false).expect_err("is in use");
    assert!(matches!(busy, MountError::Busy(_)), "{busy}");
    let detached = mountpoint.detach(2).expect("detaches lazily");
    assert_eq!((detached.lazily, detached.holders), (true, 2));
    assert_eq!(standing(dir.path()).ok(), Some(Standing::Free));
    drop((holder, device));
}

#[test]
fn only_our_mounts_are_unmounted() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let error = unmount(dir.path(), true).expect_err("nothing is mounted");
    assert!(error.to_string().contains("not a mount of cached-downloads"));
    let error = unmount(Path::new("/proc"), true).expect_err("is another's");
    assert!(error.to_string().contains("but of proc"), "{error}");
}

#[test]
fn a_file_is_no_mountpoint() {
    if !can_mount() {
        return;
    }
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let error = attach(file.path(), false).expect_err("is a file");
    assert!(matches!(error, MountError::NotDirectory(_)), "{error}");
}
