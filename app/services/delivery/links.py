from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MailLinks:
    """Where mails lead. A page spends its token only when a person presses its button."""

    base_url: str
    reset_path: str = "/account/reset"
    verify_path: str = "/account/verify"
    email_path: str = "/account/email"
    restore_path: str = "/account/restore"

    def reset(self, token: str) -> str:
        """To choose a password, also the first one."""
        return f"{self.base_url}{self.reset_path}?token={token}"

    def verify(self, token: str) -> str:
        """To confirm the email of an account."""
        return f"{self.base_url}{self.verify_path}?token={token}"

    def email(self, token: str) -> str:
        """To confirm a new email."""
        return f"{self.base_url}{self.email_path}?token={token}"

    def restore(self, token: str) -> str:
        """To go back to the old email."""
        return f"{self.base_url}{self.restore_path}?token={token}"
