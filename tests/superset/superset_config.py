"""Superset for tests: SQLite, loopback, everybody who comes is the administrator. Not an example for anything else."""

import os

SECRET_KEY = "for the minutes of a test, on loopback"
SQLALCHEMY_DATABASE_URI = f"sqlite:///{os.environ['SUPERSET_HOME']}/superset.db?check_same_thread=false"
WTF_CSRF_ENABLED = False
TALISMAN_ENABLED = False
# No request to anybody else.
SCARF_ANALYTICS = False


def FLASK_APP_MUTATOR(app):
    """Signs everybody in."""

    @app.before_request
    def sign_in():
        from flask_login import current_user, login_user
        from superset.extensions import security_manager

        if not current_user.is_authenticated and (user := security_manager.find_user("admin")):
            login_user(user)
