"""Users of the test column store who have few grants.

The engine knows one user, `default`, who has every right by a role. A session that takes other roles instead has only
their grants, which the engine checks as the server does. What it does not have is the server's switch
`select_from_system_db_requires_grant`: here everybody may read the tables of `system`.
"""

LEAST = "least"
# What stands before ON, and is given on the table `least` of the database.
GRANTS = ["INSERT", "SELECT", "SELECT(_topic, _partition, _offset)"]

# The tests raise errors of every code by `throwIf`.
_PROFILE = "<allow_custom_error_code_in_throwif>1</allow_custom_error_code_in_throwif>"


def configuration(folder, database):
    """Writes the engine's configuration with these users; its path."""
    grants = {"admin": "ALL ON *.* WITH GRANT OPTION"}
    grants |= {_role(grant): f"{grant} ON {database}.{LEAST}" for grant in GRANTS}
    roles = "".join(f"<{role}><grants><query>GRANT {what}</query></grants></{role}>" for role, what in grants.items())
    users = folder / "users.xml"
    users.write_text(
        f"""<clickhouse><profiles><default>{_PROFILE}</default></profiles><quotas><default/></quotas><roles>{roles}</roles>
<users><default><password></password><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>
<grants><query>GRANT {", ".join(grants)}</query></grants></default></users></clickhouse>"""
    )
    config = folder / "config.xml"
    directory = f"<user_directories><users_xml><path>{users}</path></users_xml></user_directories>"
    config.write_text(f"<clickhouse>{directory}<users_config>{users}</users_config></clickhouse>")
    return config


def roles(user):
    """The roles of a user who has few grants; `None` for others."""
    name, *grants = user.split("/")
    return [_role(grant) for grant in grants] if name == LEAST else None


def set_roles(names):
    """The statement that takes these roles and no other."""
    return "SET ROLE " + (", ".join(names) or "NONE")


def _role(grant):
    return f"grant{GRANTS.index(grant)}"
