"""A Django project in one file."""

import os
import sys

from django.http import HttpResponse
from django.urls import path

SECRET_KEY = "test"
DEBUG = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "manage"
MIDDLEWARE = []
urlpatterns = [path("hello/<name>", lambda request, name: HttpResponse(f"hello {name}"))]

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "manage")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
