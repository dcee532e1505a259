from django.urls import path

from . import views

app_name = "sales"
urlpatterns = [
    path("", views.till, name="till"),
    path("demo/", views.demo, name="demo"),
    path("sales/pay/", views.pay, name="pay"),
    path("sales/recent/", views.recent, name="recent"),
    path("sales/<int:pk>/refund/", views.refund, name="refund"),
    path("sales/<int:pk>/void/", views.void, name="void"),
]
