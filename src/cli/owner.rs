//! Root works as the owner of the state directory: a file that belongs to root would lock the service out.

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Root becomes the owner of an existing state directory, for good; anybody else stays who he is. To be called while the
/// process has one thread: those that are started later are the owner's too.
pub(super) fn become_owner(state_dir: &Path) -> anyhow::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let Ok(found) = std::fs::metadata(state_dir) else { return Ok(()) };
    if found.uid() == 0 {
        return Ok(());
    }
    let database = |name: &str| std::fs::read_to_string(Path::new("/etc").join(name)).unwrap_or_default();
    let (group, groups) = groups_of(found.uid(), found.gid(), &database("passwd"), &database("group"));
    let groups: Vec<Gid> = groups.into_iter().map(Gid::from_raw).collect();
    let became = set_thread_groups(&groups)
        .and_then(|()| set_thread_gid(Gid::from_raw(group)))
        .and_then(|()| set_thread_uid(Uid::from_raw(found.uid())));
    became.map_err(|cause| {
        anyhow::anyhow!(
            "root must not write to {}, which belongs to user {}: {cause}; run this as that user",
            state_dir.display(),
            found.uid()
        )
    })
}

/// The group of a user and the further groups it is in; of one that is not in the lists, the group of its folder.
fn groups_of(user: u32, folder: u32, users: &str, lists: &str) -> (u32, Vec<u32>) {
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<String>>();
    let number = |fields: &[String], place: usize| fields.get(place)?.parse::<u32>().ok();
    let own = users.lines().map(fields).find(|fields| number(fields, 2) == Some(user));
    let Some(own) = own else { return (folder, vec![folder]) };
    let (name, first) = (own[0].clone(), number(&own, 3).unwrap_or(folder));
    let lists = lists.lines().map(fields);
    let member = lists.filter(|fields| {
        fields.get(3).is_some_and(|members| members.trim().split(',').any(|member| member == name))
    });
    let mut groups: Vec<u32> = member.filter_map(|fields| number(&fields, 2)).collect();
    groups.push(first);
    groups.sort_unstable();
    groups.dedup();
    (first, groups)
}

#[cfg(test)]
mod tests {
    use super::groups_of;

    #[test]
    fn a_user_has_its_groups() {
        let users = "root:x:0:0::/root:/bin/sh\ncdrd:x:901:902::/var/lib/cdrd:/usr/sbin/nologin\nbroken\n";
        let lists = "root:x:0:\nasterisk:x:77:pbx,cdrd\ncdrd:x:902:\nodd:x:5:cdrdx\n";
        assert_eq!(groups_of(901, 4, users, lists), (902, vec![77, 902]));
        assert_eq!(groups_of(4711, 4, users, lists), (4, vec![4]));
    }
}
